"""Strict YAML loader: bounded size, no aliases, text keys only, no duplicate keys."""

from typing import Any, Final

import yaml

from k2.common.validation_errors import ABSENT, InvalidSpec, Problem

MAX_BYTES: Final = 1 << 20


class _Loader(yaml.SafeLoader):
    """`SafeLoader` that also rejects aliases, duplicate keys and keys that are not text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


def load_document(text: str | bytes) -> Any:
    """Parse the single document in `text`.

    Raises `InvalidSpec` if `text` is not UTF-8 or not YAML, exceeds `MAX_BYTES`, or holds no or several documents.
    """
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise InvalidSpec([Problem("", f"{len(raw)} bytes", f"at most {MAX_BYTES} bytes")])
    try:
        documents = [document for document in yaml.load_all(raw.decode("utf-8"), _Loader) if document is not None]
    except UnicodeDecodeError as error:
        raise InvalidSpec([Problem(f"byte {error.start}", ABSENT, "the file must be UTF-8 text")]) from None
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        # PyYAML does not wrap errors of its constructors: 2024-13-45 raises a plain ValueError.
        raise InvalidSpec([Problem(_position(error), ABSENT, f"the file must be YAML: {_reason(error)}")]) from None
    if len(documents) != 1:
        raise InvalidSpec([Problem("", f"{len(documents)} documents", "a file must hold exactly one object")])
    return documents[0]


def _position(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the file"


def _reason(error: Exception) -> str:
    return str(getattr(error, "problem", None) or "it is nested too deeply, or holds a value that YAML forbids")
