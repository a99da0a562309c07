"""Split the user's name

Second of three. SQL does not know that "van" belongs to what comes after it, Python does. Releases that write the whole
name alone run until the week after, so it sweeps until nobody is left who has no given name. Going back puts the names
together again: as they were written, but for more than one space in a row, and for names that were "family, given".

Revision ID: 84c2e05fa6d1
Revises: 1f7d6b90ce43
Create Date: 2026-05-05 13:45:09+00:00
"""

from alembic import op

revision = "84c2e05fa6d1"
down_revision = "1f7d6b90ce43"
branch_labels = None
depends_on = None

# With these, the family's name has begun.
PARTICLES = {"al", "bin", "da", "de", "del", "der", "di", "dos", "la", "le", "ten", "van", "von", "zu"}


def split(name):
    family, comma, given = (part.strip() for part in name.partition(","))
    if comma and given:
        return {"given_name": given, "family_name": family or None}
    words = name.split()
    first = next((place for place, word in enumerate(words) if place and word in PARTICLES), max(1, len(words) - 1))
    return {"given_name": " ".join(words[:first]), "family_name": " ".join(words[first:]) or None}


def upgrade() -> None:
    op.backfill_rows(
        "users",
        columns=["name"],
        transform=lambda rows: [split(row["name"]) for row in rows],
        where="given_name IS NULL AND name IS NOT NULL",
        until_empty=True,
    )


def downgrade() -> None:
    op.backfill("users", set_={"name": "concat_ws(' ', given_name, family_name)"}, where="name IS NULL")
