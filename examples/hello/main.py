"""The smallest algorithm: a plain function."""

import msgspec

from nexus.sdk import algorithm


class Greeting(msgspec.Struct):
    name: str = "world"


@algorithm
def hello(greeting: Greeting) -> dict[str, str]:
    return {"message": f"Hello, {greeting.name}!"}


if __name__ == "__main__":
    hello.main()
