"""One YAML document, read with care: bounded, no aliases to blow up, no key twice."""

from typing import Any, Final

import yaml

from k2.common.validation_errors import ABSENT, InvalidSpec, Problem

MAX_BYTES: Final = 1 << 20


class _Loader(yaml.SafeLoader):
    """Safe YAML, minus what a feed never needs."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_document(text: str | bytes) -> Any:
    """The one document in `text`; raises `InvalidSpec` for anything else."""
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > MAX_BYTES:
        raise InvalidSpec([Problem("", f"{len(raw)} bytes", f"at most {MAX_BYTES} bytes")])
    try:
        documents = [document for document in yaml.load_all(raw.decode("utf-8"), _Loader) if document is not None]
    except UnicodeDecodeError as error:
        raise InvalidSpec([Problem(f"byte {error.start}", ABSENT, "the file must be UTF-8 text")]) from None
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        # PyYAML lets its own parts' errors through where a value is not what its tag says: 2024-13-45.
        raise InvalidSpec([Problem(_where(error), ABSENT, f"the file must be YAML: {_what(error)}")]) from None
    if len(documents) != 1:
        raise InvalidSpec([Problem("", f"{len(documents)} documents", "a file holds exactly one object")])
    return documents[0]


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the file"


def _what(error: Exception) -> str:
    return str(getattr(error, "problem", None) or "it is nested too deeply, or holds a value that YAML forbids")
