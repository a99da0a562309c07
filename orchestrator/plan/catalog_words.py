"""What of PostgreSQL's catalog two databases of one schema fingerprint answer alike: names, one by one. Pure."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VIEWS = _words("""tables columns views schemata sequences table_constraints key_column_usage constraint_column_usage
    referential_constraints check_constraints""")
CATALOGS = _words("""pg_class pg_namespace pg_attribute pg_attrdef pg_type pg_enum pg_constraint pg_index pg_indexes
    pg_tables pg_views pg_matviews pg_sequences pg_trigger pg_proc pg_extension pg_policies""")
# Of these, and of no others: not who owns it, nor in which database it lies.
COLUMNS = _words("""table_schema table_name table_type column_name data_type is_nullable column_default
    character_maximum_length numeric_precision numeric_scale datetime_precision udt_name udt_schema is_identity
    is_generated constraint_name constraint_type constraint_schema unique_constraint_name unique_constraint_schema
    update_rule delete_rule is_deferrable initially_deferred check_clause schema_name sequence_name sequence_schema
    relname relkind relispartition relrowsecurity nspname attname attnotnull attisdropped atthasdef attidentity
    attgenerated typname typtype enumlabel conname contype convalidated condeferrable condeferred confupdtype
    confdeltype indisunique indisprimary indisvalid schemaname tablename indexname indexdef viewname matviewname
    ispopulated sequencename tgname tgisinternal proname prokind extname extversion policyname""")
# Numbers of objects: rows are found by them, and nobody is told of them.
HIDDEN = _words("""oid relnamespace attrelid atttypid adrelid adnum typnamespace typrelid typbasetype enumtypid conrelid
    confrelid connamespace contypid conindid conkey confkey indexrelid indrelid indkey tgrelid pronamespace
    extnamespace""")
# They have gaps where something was dropped, but rows have the same order by them.
BY_ORDER = _words("attnum ordinal_position enumsortorder")
# Of columns: numbers that have these gaps, so they are held against each other only, and against 0.
NUMBERS = BY_ORDER | _words("adnum conkey confkey indkey")
FUNCTIONS = _words("""count coalesce nullif lower upper length array_agg string_agg bool_or bool_and min max to_regclass
    to_regtype current_schema current_schemas format_type pg_table_is_visible pg_type_is_visible quote_ident concat""")
TYPES = _words("text varchar name regclass regtype bool boolean")
KEYWORDS = _words("""select distinct from where and or not in exists is null as join left right inner outer full cross
    on using order by group having limit asc desc nulls first last case when then else end like ilike between any some
    all array true false union except intersect""")
