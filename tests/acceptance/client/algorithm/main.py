import asyncio

from nexus_client_sdk.nexus.core.app_core import Nexus


async def main() -> None:
    await Nexus.create().activate()


if __name__ == "__main__":
    asyncio.run(main())
