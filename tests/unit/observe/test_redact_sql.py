"""Secrets are masked however the text of a schema spells them, and what is none is shown."""

from __future__ import annotations

import pytest

from orchestrator.observe import redact, redact_sql

# As tenants write them in functions, views, triggers, events and options, and as the servers tell them.
SPELLINGS = r"""
public.pgp_sym_decrypt((people.enc)::bytea, 'Hunter2'::text)
md5(((people.ssn)::text || 'Hunter2'::text))
"pgp_sym_encrypt"(x, 'Hunter2')
public."my_encrypt"(x, psw => 'Hunter2', opts => 'compress-algo=1')
EXECUTE 'select pgp_sym_decrypt(x, ''Hunter2'')' INTO y
EXECUTE 'select pgp_sym_decrypt(x, ' || quote_literal('Hunter2') || ')'
EXECUTE format('select pgp_sym_decrypt(%I, %L)', col, 'Hunter2')
RAISE EXCEPTION 'cannot encrypt('; y := pgp_sym_encrypt(x, 'Hunter2');
hmac(x, $$Hunter2$$, 'sha256')
hmac(x, $k$Hunter2$k$::bytea, 'sha256')
hmac(x, E'a\'Hunter2', 'sha256')
hmac(x, 'a\', 'Hunter2)', 'x')
hmac(x /* don't */, 'Hunter2', 'x')
encrypt(x, '\x48756e746572Hunter2'::bytea, 'aes')
encrypt(x, x'Hunter2', 'aes')
encrypt(x, ')Hunter2', 'aes')
crypto_secretbox(convert_to(x,'utf8'), nonce, '\xHunter2'::bytea)
sha256((x || 'Hunter2')::bytea)
sha256(convert_to((x || 'Hunter2'), 'UTF8'))
sign(json_build_object('a', 1), 'Hunter2', 'HS256')
aes_encrypt(`t`.`x`,_utf8mb4'Hunter2')
aes_encrypt(`x`,_utf8mb4\'Hunter2\')
AES_ENCRYPT(x, "Hunter2")
AES_ENCRYPT(x, SHA2("Hunter2", 512))
to_base64(aes_encrypt(x, unhex('Hunter2')))
DES_ENCRYPT(x, 'Hunter2')
ENCODE(x, 'Hunter2')
PASSWORD('Hunter2')
SET @enc_key = 'Hunter2'
SET @k_key := "Hunter2"
DECLARE v_key VARCHAR(32) DEFAULT 'Hunter2'
DECLARE api_key VARCHAR(32) DEFAULT "Hunter2"
v_key CONSTANT text := 'Hunter2'
c_key bytea := decode('Hunter2', 'hex')
k_key text := convert_from('\xHunter2', 'UTF8')
pass text := 'Hunter2'
v_pass varchar(20) DEFAULT 'Hunter2'
salt text := 'Hunter2'; pepper text = 'Hunter2'; v_pw := 'Hunter2'
'Authorization', 'Bearer ' || 'Hunter2'
concat('Bearer ', 'Hunter2')
concat("Authorization: Bearer ", "Hunter2")
format('Bearer %s', 'Hunter2')
'Bearer Hunter2'
'Authorization: Basic Hunter2'
'{"Authorization": "Basic Hunter2"}'::jsonb
'{"Authorization": "Hunter2"}'::jsonb
'{"x-auth": "Hunter2", "X-Signature":"Hunter2"}'
http_header('X-Api-Key', 'Hunter2')
http_header('Authorization', 'Hunter2')
http_header('X-Auth', 'Hunter2')
'https://hooks.slack.com/services/T0/B0/Hunter2'
'https://discord.com/api/webhooks/123/Hunter2'
'https://api.telegram.org/bot123:Hunter2/sendMessage'
'https://x.example/a?sig=Hunter2&x=1'
'https://x.example/a?x=1&key=Hunter2'
'https://user:Hunter2@x.example/a'
'https://Hunter2@sentry.io/1'
dblink_connect('host=h password=' || 'Hunter2')
dblink_connect(format('host=h password=%s', 'Hunter2'))
CREATE USER MAPPING FOR x SERVER y OPTIONS (user 'a', password 'Hunter2')
OPTIONS (user 'a', "password" 'Hunter2')
CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h', PASSWORD 'Hunter2')
table | t | BASE TABLE | SPIDER | x | wrapper "mysql", host "h", password "Hunter2"
CREATE USER x IDENTIFIED WITH mysql_native_password AS 'Hunter2'
CREATE USER x IDENTIFIED VIA ed25519 USING 'Hunter2'
ALTER ROLE x ENCRYPTED PASSWORD 'Hunter2'
{sftp_pass=Hunter2,pass=Hunter2}
{host=x,secret_access_key=Hunter2}
{"options=-c x","password=Hun,Hunter2"}
SET app.enc_key TO 'Hunter2'
SET "app.enc_key" TO 'Hunter2'
(current_setting('app.key'::text, true) = 'Hunter2'::text)
set_config('app.key'::text, 'Hunter2'::text, false)
x := '{"token": 1}'; api_key := 'Hunter2'
x := 'token'; y := 'a'; v_secret := 'Hunter2'; z:= 'b'; my_token := 'Hunter2'
jsonb_build_object('pass', 'Hunter2')
json_object("token", "Hunter2")
json_object('api_key', "Hunter2")
INSERT INTO users (name, password) VALUES ('bob', 'Hunter2')
INSERT INTO users (name, mail, password) VALUES (concat('bob', 'x'), 'a', 'Hunter2')
UPDATE users SET password = crypt('Hunter2', gen_salt('bf'))
CASE name WHEN 'api_token' THEN 'Hunter2' END
IF NEW.pin = 'Hunter2' THEN
vault.create_secret('Hunter2', 'name')
select * from vault.decrypted_secrets where name = 'Hunter2'
COPY t FROM 's3://b/k' CREDENTIALS 'aws_access_key_id=a;aws_secret_access_key=Hunter2'
aws_s3.query_export_to_s3(q, aws_commons.create_aws_credentials('id', 'Hunter2', ''))
'AccountKey=Hunter2;EndpointSuffix=x'
'AKIAHUNTER2HUNTER2Hunter2'
'glpat-Hunter2aaaaaaaaaa'
'SG.Hunter2aaaaaaaaaaaa.Hunter2aaaaaaaaaaaaaaa'
'xapp-1-Hunter2'
'npm_Hunter2aaaaaaaaaaaaaa'
'sk-proj-Hunter2aaaaaaaaa'
'whsec_Hunter2aaaaaaaaaaaa'
'github_pat_Hunter2aaaaaaaaa'
net.http_post(url := 'x', headers := '{"X-Auth": "Hunter2"}')
encrypt(data, decode('Hunter2', 'hex'), 'aes')
md5('Hunter2' || email || 'Hunter2')
hmac(a, 'x', 'sha1'); b := crypt(pin, 'Hunter2')
encrypt(x, 'Hunter2
column | t | note text default aes_encrypt ( x , 'Hunter2' )
crypt(pin, '$2a$06$Hunter2Hunter2')
"""
OTHERS = [
    "(api_key <> ALL (ARRAY[('Hunter2'::character varying(9))::text, ('Hunter2'::character varying(9))::text]))",
    "nullif(t.api_token, ('Hunter2'::text || 'Hunter2'::text))",
    r"CHECK (`api_key` <> _utf8mb4\'Hunter2\')",
    "api_key := $1 || 'Hunter2'",
    "EXECUTE 'select pgp_sym_decrypt(x, ''' || 'Hunter2' || ''')'",
    "EXECUTE 'DO $x$ select encrypt(x, ''''Hunter2'''') $x$'",
    "hmac(x -- don't\n , 'Hunter2', 'x')",
    "dblink('dbname=x user=u password=''Hunter2''', 'select 1')",
    "dearmor('-----BEGIN PGP PRIVATE KEY BLOCK-----\nHunter2\n-----END PGP PRIVATE KEY BLOCK-----'), md5('Hunter2')",
    "load('-----BEGIN PGP PRIVATE KEY BLOCK-----\nHunter2\n-----END PGP PRIVATE KEY BLOCK-----')",
]
SHOWN = [
    "CHECK (((state)::text = ANY (ARRAY[('pass'::character varying)::text, ('fail'::character varying)::text])))",
    "CHECK (result in ('pass','fail'))",
    "view | v | SELECT people.name FROM people WHERE ((people.kind)::text = 'customer'::text)",
    "encode(sha256((people.ssn)::bytea), 'hex'::text)",
    "pgp_sym_decrypt((people.enc)::bytea, current_setting('app.name'::text)) AS a, 'shown'",
    'SELECT t.token, "Users"."Name" FROM "Users"',
    "INSERT INTO notes (id, note) VALUES (1, 'shown')",
    "'https://example.com/path?page=2#top'",
    'INDEX i ON t USING btree ("accessToken", "userId")',
    "column | t | sort_key | text | 'a'",
    "hmac(a, b, c); note := 'shown'",
    "note text := 'password'; other text := NULL",
]


@pytest.mark.parametrize("text", [*SPELLINGS.strip().splitlines(), *OTHERS])
def test_a_secret_is_masked_however_it_is_spelt(text: str) -> None:
    assert "Hunter2" in text
    for around in ("{}", "function | f | x := 'it''s'; {}; y := 'z'", "AS $body$ -- a note\n {} $body$"):
        shown = redact_sql.text(around.replace("{}", text))
        assert "Hunter2" not in shown
        assert redact.MASK in shown


@pytest.mark.parametrize("text", SHOWN)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert redact_sql.text(text).replace(redact.MASK, "") == text.replace("'app.name'", "")
