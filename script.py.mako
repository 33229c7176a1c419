## The template of a new revision file. What autogenerate proposes is laid out so that black and
## "ruff format" leave it alone, at any line length from 79 up: a call stands on one line if it fits
## into 79 columns, otherwise each argument has a line. This block does that; the file follows it.
<%!
    import ast

    def literal(value):
        """None, a string or a tuple of strings as source, in the quotes that need fewer escapes."""
        if value is None:
            return "None"
        if not isinstance(value, str):
            return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
        if value.count('"') > value.count("'"):
            return "'" + "\\'".join(repr('"' + part)[2:-1] for part in value.split("'")) + "'"
        return '"' + '\\"'.join(repr("'" + part)[2:-1] for part in value.split('"')) + '"'

    def bracketed(node):
        """What stands before the arguments or items of an expression, those, what stands after."""
        if isinstance(node, ast.Call):
            return source(node.func) + "(", [*node.args, *node.keywords], ")"
        if isinstance(node, ast.List):
            return "[", node.elts, "]"
        if isinstance(node, ast.Tuple) and len(node.elts) > 1:
            return "(", node.elts, ")"
        if isinstance(node, ast.Dict) and all(node.keys):
            return "{", list(zip(node.keys, node.values)), "}"
        return None

    def source(node, indent=None):
        """An expression as source: on one line, or laid out if the indent of its line is given."""
        if isinstance(node, ast.keyword) and node.arg:
            before, node = node.arg + "=", node.value
        elif isinstance(node, tuple):
            before, node = source(node[0]) + ": ", node[1]
        else:
            before = ""
        parts = bracketed(node)
        if parts is None:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                return before + literal(node.value)
            if isinstance(node, ast.Attribute):
                return before + source(node.value) + "." + node.attr
            return before + ast.unparse(node)
        opening, items, closing = parts
        line = before + opening + ", ".join(map(source, items)) + closing
        if indent is None or not items or len(indent + line + ",") <= 79:
            return line
        inner = indent + "    "
        lines = [inner + source(item, inner) + "," for item in items]
        return "\n".join([before + opening, *lines, indent + closing])

    def laid_out(body):
        """A function's body. Comments, and statements other than a call, stay as they came."""
        lines = ["def body():", *("    " + body).split("\n")]
        try:
            statements = ast.parse("\n".join(lines)).body[0].body
        except SyntaxError:
            return body
        for statement in reversed(statements):
            where = slice(statement.lineno - 1, statement.end_lineno)
            is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            if is_call and "#" not in "".join(lines[where]):
                lines[where] = ["    " + source(statement.value, "    ")]
        return "\n".join(lines[1:]).strip()
%>\
"""${message | trim}

Revision ID: ${up_revision}
Revises:${" " + comma(down_revision) if down_revision else ""}
Create Date: ${create_date}

"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
% if imports:
${imports}
% endif

# revision identifiers, used by Alembic.
revision: str = ${literal(up_revision)}
down_revision: str | Sequence[str] | None = ${literal(down_revision)}
branch_labels: str | Sequence[str] | None = ${literal(branch_labels)}
depends_on: str | Sequence[str] | None = ${literal(depends_on)}


def upgrade() -> None:
    ${laid_out(upgrades) if upgrades else "pass"}


def downgrade() -> None:
    ${laid_out(downgrades) if downgrades else "pass"}
