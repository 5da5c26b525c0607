"""The smallest algorithm: a plain function."""

import msgspec

from nexus.sdk import Context, algorithm


class Greeting(msgspec.Struct):
    name: str = "world"


@algorithm
def hello(greeting: Greeting, ctx: Context) -> dict[str, str]:
    ctx.log.info("greeting %s", greeting.name)
    return {"message": f"Hello, {greeting.name}!"}


if __name__ == "__main__":
    hello.main()
