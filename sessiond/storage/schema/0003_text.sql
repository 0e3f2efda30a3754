-- SQLite computes a generated column for each row that is inserted, even if it is not stored: the text of an
-- event is computed by whoever asks for it.
ALTER TABLE event DROP COLUMN text;
CREATE VIEW event_text AS
    SELECT id, session_id, seq, kind, at, coalesce(line ->> '$.text', line ->> '$.command') AS text FROM event;
