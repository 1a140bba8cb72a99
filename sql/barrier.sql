-- Nothing can be counted out of what one may not know: a stranger's plan, with
-- what was counted when it was run, is the same for a value that exists and for
-- one that does not; of each column of each view, with each operator that an
-- index could serve or that the planner pushes below the views' barrier.
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_stranger;
SELECT apikey_organization_create('acme') IS NOT NULL AS made;
SELECT apikey_project_create('acme/pay');
SELECT apikey_member_add('acme', 'regress_apikey_anna', 'owner', 'somebody');
SET ROLE regress_apikey_anna;
SELECT count(apikey_create('personal-' || i, subject => 'user-' || i, description => 'text', expires_at => '2100-01-01',
	allowed_ips => '{10.0.0.0/8}', metadata => '{"a": 1}', scopes => '{read}')) FROM generate_series(1, 50) i;
SELECT count(apikey_create('shared-' || i, 'acme/pay', subject => 'somebody', role => 'admin', scopes => '{read}')) FROM generate_series(1, 50) i;
RESET ROLE;
SELECT count(*) FROM apikeys WHERE apikey_revoke(id, 'over') AND name LIKE '%5';
UPDATE apikey_project SET name_pattern = '.*', max_ttl = '1 year', max_keys = 100, terms = 'ours';
-- their statistics are known
ANALYZE apikey_organization, apikey_project, apikey_member, apikey_key, apikey_event;

CREATE TYPE regress_probe AS (view_name text, column_name text, type text, operator text, known text, unknown text);
-- A value of each column that exists, and one that does not.
CREATE FUNCTION regress_probes() RETURNS SETOF regress_probe LANGUAGE plpgsql AS $$
DECLARE
	probe regress_probe;
	op record;
BEGIN
	FOR probe.view_name, probe.column_name, probe.type IN
		SELECT c.relname, a.attname, a.atttypid::regtype
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
			WHERE c.oid IN ('apikeys'::regclass, 'apikey_events'::regclass, 'apikey_projects'::regclass,
				'apikey_organizations'::regclass, 'apikey_members'::regclass)
			ORDER BY c.relname, a.attnum
	LOOP
		EXECUTE format('SELECT max(%1$I::text) FROM %2$I', probe.column_name, probe.view_name) INTO probe.known;
		-- a boolean is not compared: its plan names no value
		CONTINUE WHEN probe.known IS NULL OR probe.type = 'boolean';
		probe.unknown := CASE probe.type
			WHEN 'uuid' THEN overlay(probe.known PLACING CASE right(probe.known, 1) WHEN '0' THEN '1' ELSE '0' END FROM 36)
			WHEN 'bigint' THEN (probe.known::bigint + 1)::text
			WHEN 'integer' THEN (probe.known::integer + 1)::text
			WHEN 'timestamp with time zone' THEN (probe.known::timestamptz + interval '1 us')::text
			WHEN 'interval' THEN (probe.known::interval + interval '8 days')::text
			WHEN 'inet' THEN '192.0.2.1'
			WHEN 'jsonb' THEN '{"a": 2}'
			WHEN 'text[]' THEN '{unheard}'
			WHEN 'cidr[]' THEN '{192.0.2.0/24}'
			WHEN 'apikey_role' THEN 'developer'
			WHEN 'regrole' THEN 'regress_apikey_stranger'
			ELSE left('zz' || probe.known, 63) END;
		FOR op IN
			SELECT DISTINCT o.oid::regoperator, n.nspname, o.oprname, o.oprright::regtype AS type
				FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
				JOIN pg_proc p ON p.oid = o.oprcode
				WHERE o.oprresult = 'boolean'::regtype
				  AND o.oprleft IN (probe.type::regtype, CASE WHEN probe.type LIKE '%[]' THEN 'anyarray'::regtype
						WHEN probe.type = 'apikey_role' THEN 'anyenum'::regtype WHEN probe.type = 'regrole' THEN 'oid'::regtype
						WHEN probe.type = 'name' THEN 'text'::regtype END)
				  AND (o.oprright = o.oprleft OR (o.oprleft = 'name'::regtype AND o.oprright = 'text'::regtype))
				  AND (p.proleakproof OR EXISTS (SELECT FROM pg_amop m WHERE m.amopopr = o.oid))
		LOOP
			probe.operator := format('OPERATOR(%I.%s)', op.nspname, op.oprname);
			RETURN NEXT probe;
		END LOOP;
	END LOOP;
END $$;

-- A plan in which the value stands for itself.
CREATE FUNCTION regress_plan(options text, probe regress_probe, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (%s) SELECT * FROM %I WHERE %I %s %L::%s', options, probe.view_name,
			probe.column_name, probe.operator, value, probe.type) LOOP
		plan := plan || line || E'\n';
	END LOOP;
	RETURN regexp_replace(replace(replace(plan, quote_literal(value), 'VALUE'), ' ' || value || ')', ' VALUE)'),
		'''[0-9]+''::oid', 'VALUE', 'g');
END $$;
CREATE TEMP TABLE probes AS SELECT p AS probe FROM regress_probes() p;
GRANT SELECT ON probes TO PUBLIC;
SELECT (probe).view_name, count(DISTINCT (probe).column_name) AS columns, count(*) > 20 AS probes FROM probes GROUP BY 1 ORDER BY 1;

SET ROLE regress_apikey_stranger;
SELECT (probe).view_name, (probe).column_name, (probe).operator
	FROM probes
	WHERE regress_plan('ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF', probe, (probe).known) <>
			regress_plan('ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF', probe, (probe).unknown)
	   OR regress_plan('VERBOSE', probe, (probe).known) <> regress_plan('VERBOSE', probe, (probe).unknown);
-- the same as when there is nothing: no row was read to be removed
SELECT count(*) FROM probes
	WHERE regress_plan('ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF', probe, (probe).known) ~ 'Rows Removed|actual rows=[1-9]';
-- the test can fail: who may see all is told what was removed
RESET ROLE;
SELECT count(*) > 0 AS told FROM probes
	WHERE regress_plan('ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF', probe, (probe).known) ~ 'Rows Removed|actual rows=[1-9]';
-- nothing of ours but the functions stands below the views
SELECT c.relname, d.refclassid::regclass, d.refobjid::regclass
	FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid
	JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
	WHERE c.oid IN ('apikeys'::regclass, 'apikey_events'::regclass, 'apikey_projects'::regclass,
			'apikey_organizations'::regclass, 'apikey_members'::regclass)
	  AND d.refobjid <> c.oid;

DROP TABLE probes;
DROP FUNCTION regress_plan, regress_probes;
DROP TYPE regress_probe;
SELECT apikey_organization_drop('acme', 'acme');
DELETE FROM apikey_key;
DROP ROLE regress_apikey_anna, regress_apikey_stranger;
