from main import read_digits


def test_support_vectors_read_most_digits_right() -> None:
    reading = read_digits.test({"model": "svm", "parameters": {"gamma": 0.001}})
    assert reading.accuracy > 0.98
    assert sum(map(sum, reading.confusion)) == reading.images == 360
    assert len(reading.misread) == reading.images - sum(reading.confusion[i][i] for i in range(10))
