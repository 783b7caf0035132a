"""The tables that every server has. Modules with tables of their own add them to METADATA when they are imported."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rowids only for INTEGER, not for BIGINT.
ROW_ID = BigInteger().with_variant(Integer, "sqlite")

# Collation decides how names sort; "C" and SQLite's default both compare bytes.
NAME = String(collation="C").with_variant(String(), "sqlite")

documents = Table(
    "documents",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("kind", NAME, nullable=False),
    Column("account", NAME, nullable=False),
    Column("region", NAME, nullable=False),
    Column("name", NAME, nullable=False),
    Column("arn", NAME, nullable=False),
    Column("parent", NAME, nullable=False, default=""),
    Column("status", NAME, nullable=False, default=""),
    Column("state", NAME, nullable=False, default=""),
    Column("version", Integer, nullable=False, default=0),
    Column("created_at", Float(53), nullable=False),
    Column("modified_at", Float(53), nullable=False),
    Column("due_at", Float(53)),
    Column("lease_owner", NAME),
    Column("lease_until", Float(53)),
    Column("failures", Integer, nullable=False, default=0),
    Column("body", Text, nullable=False),
    Column("private", Text, nullable=False),
    UniqueConstraint("kind", "account", "region", "name"),
    Index("ix_documents_listing", "kind", "account", "region", "created_at"),
    Index("ix_documents_due", "due_at"),
    Index("ix_documents_arn", "arn"),
    Index("ix_documents_parent", "parent"),
    sqlite_autoincrement=True,  # an id is never used twice, so a deleted document cannot be taken for its successor
)

tags = Table(
    "tags",
    METADATA,
    Column("arn", NAME, primary_key=True),
    Column("key", NAME, primary_key=True),
    Column("value", Text, nullable=False),
)

settings = Table(
    "settings",
    METADATA,
    Column("name", NAME, primary_key=True),
    Column("value", Text, nullable=False),
)
