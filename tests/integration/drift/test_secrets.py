"""What servers tell of a schema shows no secret of it, whatever they make of how it was spelt."""

from __future__ import annotations

import pytest

from orchestrator.observe import redact, redact_sql
from tests.integration.drift.places import Fleet

pytestmark = pytest.mark.anyio

POSTGRESQL = (
    "CREATE EXTENSION pgcrypto",
    "CREATE EXTENSION file_fdw",
    """CREATE TABLE people (id int PRIMARY KEY, ssn varchar(20) DEFAULT md5('Hunter2' || now()), enc varchar(500),
    api_key text DEFAULT 'Hunter2', pin text CHECK (pin <> crypt('Hunter2', pin)),
    mac bytea GENERATED ALWAYS AS (hmac(coalesce(enc, 'x')::text, 'Hunter2', 'sha256')) STORED)""",
    "CREATE INDEX i ON people (md5(ssn || 'Hunter2')) WHERE sha256((ssn || 'Hunter2')::bytea) <> '\\x00'",
    """CREATE VIEW clear AS SELECT id, pgp_sym_decrypt(enc::bytea, 'Hunter2Key') AS a, md5(ssn || 'Hunter2') AS b,
    pgp_sym_decrypt(decode(enc, 'base64'), 'Hunter2') AS c,
    encrypt(enc::bytea, '\\x48Hunter2'::text::bytea, 'aes') AS d,
    digest(ssn || E'it''s a\\' (Hunter2', 'sha1') AS e,
    current_setting('app.key', true) = 'Hunter2' AS f FROM people""",
    """CREATE FUNCTION f(token text DEFAULT 'Hunter2') RETURNS text LANGUAGE plpgsql SET app.enc_key = 'Hunter2' AS $$
    DECLARE v_key CONSTANT text := 'Hunter2'; pass text := 'Hunter2'; found text;
    BEGIN -- don't show it
    EXECUTE 'SELECT pgp_sym_encrypt(''x'', ''Hunter2'')' INTO found;
    EXECUTE 'SELECT encode(hmac(''x'', ' || quote_literal('Hunter2') || ', ''sha1''), ''hex'')' INTO found;
    EXECUTE format('SELECT pgp_sym_encrypt(%L, %L)', found, 'Hunter2') INTO found;
    PERFORM hmac(found /* isn't it */, $k$Hunter2$k$, 'sha1'), set_config('a.secret', 'Hunter2', true);
    PERFORM jsonb_build_object('Authorization', 'Bearer ' || 'Hunter2', 'X-Auth', 'Hunter2');
    PERFORM concat('https://hooks.slack.com/services/T/B/Hunter2', '{"Authorization": "Basic Hunter2"}');
    RETURN 'postgresql://u:Hunter2@db/x'; END $$""",
    """CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.enc = pgp_sym_encrypt(trim(NEW.ssn),
    ''Hunter2''); RETURN NEW; END'""",
    """CREATE FUNCTION h(x text) RETURNS text LANGUAGE sql
    BEGIN ATOMIC SELECT pgp_sym_decrypt(x::bytea, 'Hunter2'::text || 'Hunter2'); END""",
    """CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW WHEN (md5(NEW.ssn || 'Hunter2') <> 'x')
    EXECUTE FUNCTION g('https://x.example/?key=Hunter2', '{"Authorization":"Bearer Hunter2"}')""",
    "CREATE POLICY p ON people USING (enc = md5(CURRENT_USER || 'Hunter2') AND api_key <> 'Hunter2')",
    "CREATE DOMAIN secret_text AS text DEFAULT 'Hunter2' CHECK (md5(VALUE || 'Hunter2') <> 'x')",
    "COMMENT ON TABLE people IS 'it''s by password=Hunter2, token: Hunter2, Bearer Hunter2'",
    "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
    "CREATE FOREIGN TABLE far (a text) SERVER files OPTIONS (program 'curl https://u:Hunter2@x.example')",
    "CREATE STATISTICS s ON (md5(ssn || 'Hunter2')), (md5(enc || 'Hunter2')) FROM people",
    "CREATE RULE r AS ON DELETE TO clear DO INSTEAD UPDATE people SET enc = pgp_sym_encrypt(OLD.a, 'Hunter2')",
)
MARIADB = (
    """CREATE TABLE people (id int PRIMARY KEY, ssn varchar(20), enc varbinary(500),
    api_key varchar(20) DEFAULT 'Hunter2',
    h varchar(40) DEFAULT (md5(concat('Hunter2', 'x'))),
    mac varchar(64) AS (sha2(concat(ssn, 'Hunter2'), 256)) STORED, CHECK (md5(concat(ssn, 'it\\'s Hunter2')) <> 'x'))
    COMMENT = 'wrapper "mysql", host "h", password "Hunter2"'""",
    """CREATE VIEW clear AS SELECT id, aes_decrypt(enc, 'Hunter2') AS a,
    aes_decrypt(unhex(enc), sha2("Hunter2", 512)) AS b,
    aes_decrypt(enc, unhex('Hunter2')) AS c, aes_decrypt(enc, 0x48756e7465723248) AS d,
    hex(encode(enc, 'Hunter2')) AS e,
    aes_encrypt(concat(id, 'x'), 'it\\'s Hunter2') AS f FROM people""",
    """CREATE FUNCTION f(token varchar(20)) RETURNS text DETERMINISTIC BEGIN
    DECLARE v_key varchar(32) DEFAULT "Hunter2";
    DECLARE pass varchar(32) DEFAULT 'Hunter2'; # don't show it
    SET @enc_key = 'Hunter2', @other_key := "Hunter2";
    RETURN concat(aes_encrypt(token, # isn't it
    'Hunter2'), aes_encrypt(v_key, "Hunter2"), json_object("token", "Hunter2"), concat('Bearer ', 'Hunter2')); END""",
    """CREATE PROCEDURE p() BEGIN SET @x = 'SELECT aes_encrypt(1, ''Hunter2'')'; PREPARE s FROM @x;
    CREATE USER x IDENTIFIED VIA ed25519 USING 'Hunter2';
    CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h', PASSWORD 'Hunter2'); END""",
    "CREATE TRIGGER t BEFORE INSERT ON people FOR EACH ROW SET NEW.enc = aes_encrypt(trim(NEW.ssn), 'Hunter2')",
    """CREATE EVENT e ON SCHEDULE EVERY 1 DAY COMMENT 'password: Hunter2' DO
    UPDATE people SET enc = des_encrypt(ssn, 'Hunter2'), api_key = 'Hunter2'""",
)
SQLITE = (
    """CREATE TABLE people (id int, api_key text DEFAULT 'Hunter2', ssn text,
    salt text DEFAULT ('Hunter2' || 'x'), CHECK (lower(api_key) <> 'Hunter2'))""",
    """CREATE VIEW clear AS SELECT aes_decrypt(unhex(ssn), 'Hunter2', "shown") AS a FROM people
    WHERE api_key = 'Hunter2'""",
    """CREATE TRIGGER t AFTER INSERT ON people BEGIN
    UPDATE people SET ssn = encrypt(lower(NEW.ssn), 'it''s (Hunter2') /* isn't it */; END""",
    "CREATE INDEX i ON people (api_key) WHERE api_key <> x'48' AND api_key <> 'Hunter2'",
)
KINDS = [("postgresql", POSTGRESQL), ("maria", MARIADB), ("sqlite", SQLITE)]


@pytest.mark.parametrize(("fleet", "statements"), KINDS, indirect=["fleet"], ids=[name for name, _ in KINDS])
async def test_no_secret_of_a_schema_is_shown(fleet: Fleet, statements: tuple[str, ...]) -> None:
    one, other = fleet.names
    await fleet.execute(other, *statements)
    read = await fleet.read(other)
    told = [line for line in read.lines if "Hunter2" in line.text]
    assert len(told) > 3
    shown = [redact_sql.text(line.text, line.part if line.text.startswith("column |") else None) for line in told]
    shown += await fleet.differing(one, other)
    assert [line for line in shown if "Hunter2" in line or "48756e" in line] == []
    assert all(redact.MASK in line for line in shown[: len(told)])
