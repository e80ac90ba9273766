"""Which of the vendor's operations the tests have asked for, by the list in its OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .servers import Seen

ROOT = "/rest/v0"


class Operations:
    """The operations of an OpenAPI document, each a verb and a template such as `/vms/{id}`."""

    def __init__(self, document: Path) -> None:
        paths = json.loads(document.read_text())["paths"]
        self._patterns = [
            (verb.upper(), template, _pattern(template))
            # The more is spelled out, the earlier; a parameter with a format before one without.
            for template in sorted(paths, key=lambda template: (template.count("{"), "{format}" not in template))
            for verb in paths[template]
            if verb in {"get", "put", "post", "patch", "delete"}
        ]

    def __len__(self) -> int:
        return len(self._patterns)

    def of(self, seen: Iterable[Seen]) -> set[tuple[str, str]]:
        """Return the operations that these requests were, those left out that are none or were refused."""
        found = (self._find(each.method, each.path) for each in seen if each.status < 400)
        return {operation for operation in found if operation is not None}

    def _find(self, method: str, path: str) -> tuple[str, str] | None:
        below = path.removeprefix(ROOT).rstrip("/")
        for verb, template, pattern in self._patterns:
            if verb == method and pattern.fullmatch(below):
                return verb, template
        return None


def _pattern(template: str) -> re.Pattern[str]:
    literal = re.escape(template.replace("{id}.{format}", "\0").replace("/{", "/\1{"))
    literal = re.sub("\1\\\\{[^}]+\\\\}", "[^/]+", literal)
    return re.compile(literal.replace("\0", r"[^/.]+\.[^/]+"), re.IGNORECASE)
