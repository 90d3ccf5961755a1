-- Part of a name, anywhere in it, is found by trigrams: an extension that PostgreSQL ships and any database's owner may
-- create. In `public`, so that the indexes of the read models, which live in other schemas, name one place.

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;
