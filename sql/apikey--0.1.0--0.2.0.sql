-- Complain if this file is fed to psql.
\echo Use "ALTER EXTENSION apikey UPDATE TO '0.2.0'" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;
