-- The inbox in PostgreSQL (12 or later), version 1. A node creates it where it is missing; whoever wants to give nodes
-- fewer rights runs this by hand and grants SELECT, INSERT, UPDATE and DELETE on the tables, USAGE on the sequence.
--
-- All names are looked up in the search path of the connection.

CREATE SEQUENCE IF NOT EXISTS throughline_inbox_number AS bigint MAXVALUE 9007199254740991;

-- One row. Numbers are compared within an epoch only: after the database was restored from a backup, which takes its
-- numbers back, update the epoch to other random bytes.
CREATE TABLE IF NOT EXISTS throughline_inbox_epoch (
    version int PRIMARY KEY,
    epoch bytea NOT NULL CHECK (octet_length(epoch) = 8)
);

-- The messages. Who they are for is kept as the bytes of a name: convert_from(principal, 'UTF8') shows it.
CREATE TABLE IF NOT EXISTS throughline_inbox (
    principal bytea NOT NULL,
    number bigint NOT NULL,
    -- Given by the node, so that what it says again after a broken connection is kept once.
    token bytea NOT NULL,
    is_json boolean NOT NULL,
    body bytea NOT NULL,
    put timestamptz NOT NULL,
    PRIMARY KEY (principal, number)
);
CREATE INDEX IF NOT EXISTS throughline_inbox_put ON throughline_inbox (put);

-- Which node delivers to whom, and until when nobody else does.
CREATE TABLE IF NOT EXISTS throughline_inbox_claim (
    principal bytea PRIMARY KEY,
    holder bytea NOT NULL,
    until timestamptz NOT NULL
);

-- Keeps a message; false: there is no room. Puts for one principal come one after the other, each with its number, until
-- they are committed: without that a low number could come to be seen after a higher one was delivered.
CREATE OR REPLACE FUNCTION throughline_inbox_put(
    who bytea, mark bytea, is_text boolean, what bytea, most_messages bigint, most_bytes bigint, most_seconds float8
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    messages bigint;
    bytes bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('throughline_inbox' || encode(who, 'hex'), 0));
    IF EXISTS (SELECT FROM throughline_inbox WHERE principal = who AND token = mark) THEN
        RETURN true;
    END IF;
    DELETE FROM throughline_inbox
        WHERE principal = who AND put <= clock_timestamp() - make_interval(secs => most_seconds);
    SELECT count(*), coalesce(sum(octet_length(body)), 0) INTO messages, bytes
        FROM throughline_inbox WHERE principal = who;
    IF messages >= most_messages OR bytes + octet_length(what) > most_bytes THEN
        RETURN false;
    END IF;
    INSERT INTO throughline_inbox (principal, number, token, is_json, body, put)
        VALUES (who, nextval('throughline_inbox_number'), mark, is_text, what, clock_timestamp());
    RETURN true;
END $$;
