CREATE EXTENSION apikey CASCADE;
SELECT apikey_create('ci-deploy') IS NOT NULL AS created;
