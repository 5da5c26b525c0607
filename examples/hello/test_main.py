from main import hello


def test_greets_by_name() -> None:
    assert hello.test({"name": "Ada"}) == {"message": "Hello, Ada!"}


def test_greets_the_world_by_default() -> None:
    assert hello.test({}) == {"message": "Hello, world!"}
