-- Row-level security by Rowgate's end users. Printed, with the proxy's key in it, by: rowgate row-security --key-file FILE
-- Run it in each database, as a superuser or as a role with pg_read_all_stats, and keep it from everybody else's eyes.
--
--     ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
--     CREATE POLICY own ON orders USING (owner = (SELECT rowgate.end_user()));
--
-- The sub-select has the function called once a statement, and not once a row. A table's owner and superusers are
-- exempt from its policies: ALTER TABLE … FORCE ROW LEVEL SECURITY binds the owner too.
--
-- rowgate.end_user() is the end user of the current transaction (or session) as the proxy has verified him, and NULL
-- where there is none: no token, an expired one, or a value that somebody else has put into the setting.

BEGIN;

-- The key is nothing for the server's log.
DO $do$
BEGIN
    PERFORM pg_catalog.set_config('log_statement', 'none', true),
            pg_catalog.set_config('log_min_duration_statement', '-1', true),
            pg_catalog.set_config('log_min_error_statement', 'panic', true);
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'log_statement cannot be turned off here: see to it that the key is not in the server''s log';
END
$do$;

CREATE SCHEMA IF NOT EXISTS rowgate;
REVOKE ALL ON SCHEMA rowgate FROM PUBLIC;
GRANT USAGE ON SCHEMA rowgate TO PUBLIC;

-- HMAC's two keyed blocks (RFC 2104), of the key in use and perhaps a former one. For the functions' owner alone.
CREATE TABLE IF NOT EXISTS rowgate.seal_keys (inner_pad bytea NOT NULL, outer_pad bytea NOT NULL);
REVOKE ALL ON rowgate.seal_keys FROM PUBLIC;
DELETE FROM rowgate.seal_keys;
INSERT INTO rowgate.seal_keys (inner_pad, outer_pad) VALUES
    :keys;

CREATE OR REPLACE FUNCTION rowgate.end_user() RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    sealed text := current_setting('rowgate.end_user', true);
    part text[];
    context bytea;
    name bytea;
BEGIN
    IF sealed IS NULL OR length(sealed) > 4096
       OR sealed !~ '^1\.[st]\.[0-9]{1,12}\.[0-9a-f]{32}\.([0-9a-f]{2})+\.[0-9a-f]{64}$' THEN
        RETURN NULL;
    END IF;
    part := string_to_array(sealed, '.');
    IF part[3]::bigint <= extract(epoch FROM clock_timestamp()) THEN
        RETURN NULL;
    END IF;
    -- Where it is evaluated: a value for another session, or for another transaction, has another MAC. A transaction's
    -- timestamp is no other's of the same session; both are in microseconds since 2000, as on the wire.
    SELECT convert_to(concat_ws('|', 'rowgate.end_user', array_to_string(part[1:5], '.'), session.pid,
               (extract(epoch FROM session.backend_start) * 1000000)::bigint - 946684800000000,
               CASE part[2] WHEN 't' THEN (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint - 946684800000000
                            ELSE 0 END), 'UTF8')
      INTO context
      FROM pg_stat_get_activity(pg_backend_pid()) AS session
     WHERE session.backend_start IS NOT NULL;
    -- Both are hashed once more with the key, so that how long it takes to compare them tells nothing.
    SELECT decode(part[5], 'hex')
      INTO name
      FROM rowgate.seal_keys AS key
     WHERE sha256(key.outer_pad || sha256(key.outer_pad || sha256(key.inner_pad || context)))
           = sha256(key.outer_pad || decode(part[6], 'hex'))
     LIMIT 1;
    RETURN convert_from(name, 'UTF8');
END
$function$;
REVOKE ALL ON FUNCTION rowgate.end_user() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rowgate.end_user() TO PUBLIC;

COMMENT ON FUNCTION rowgate.end_user() IS 'The end user whom the proxy has verified for this transaction; NULL: nobody';

COMMIT;
