-- What a project's owner may give it for a pattern that names match: nothing by
-- which others' calls, which compile it and match with it, would run long.
CREATE ROLE regress_apikey_olga;
CREATE ROLE regress_apikey_bob;
SELECT apikey_organization_create('acme') IS NOT NULL AS made;
SELECT apikey_project_create('acme/pay');
SELECT apikey_member_add('acme', 'regress_apikey_olga', 'owner');
SELECT apikey_member_add('acme/pay', 'regress_apikey_bob', 'admin');
SET statement_timeout = '20s';
CREATE TABLE patterns (n int, pattern text);
GRANT SELECT ON patterns TO PUBLIC;
INSERT INTO patterns VALUES
	-- back references, which are matched by trying all
	(1, '^(.+)(.+)(.+)(.+)(.+)(.+)(.+)(.+)\8\7\6\5\4\3\2\1$'),
	(2, '([a-z]+)-\1'),
	-- constraints in constraints, each of which looks again at each character
	(3, repeat('(?=.*', 12) || 'x' || repeat(')', 12) || '.*'),
	(4, '(?!a(?<=b)).*'),
	(5, '(?=[)(?=](?!a)).*'),
	(6, '(?=[[:alpha:](?=](?!a)).*'),
	(7, '(?=\c(\((?!a)).*'),
	(8, '(?=(?#(?=)(?!a)).*'),
	-- repetitions in repetitions, which stand there as often as they may be
	(9, '(?:a?){255}(?:a?){245}b'),
	(10, repeat('(', 10) || 'a' || repeat('{0,2})', 10)),
	(11, repeat('(', 10) || 'a*' || repeat('){2,}', 10)),
	(12, '((.{0,20}){0,20}){0,20}'),
	(13, repeat('(', 40) || 'a' || repeat(')+', 40)),
	(14, '(?:[^a]?){250}abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'),
	(15, '([a-z]{1,99999999})*'),
	-- constraints that come again without a character between, which are tried in all orders
	(31, (SELECT '(?:' || string_agg('(|(?=' || c || '))', '') || ')*' FROM string_to_table('abcdef', NULL) c)),
	(32, '((|^)(|$))*'),
	(33, '(\ma?)+'),
	(34, '(?:a?[[:<:]]b*){2,}'),
	(35, '(?=(a|\M)*)a'),
	-- too many of them
	(36, repeat('(^|)($|)', 10)),
	(37, '(?:(?:^|)(?:$|)){14}'),
	(38, repeat('(\y|)', 7)),
	(39, repeat('(?:[[:>:]]|a)b', 13)),
	-- what is no pattern, as it stands or for whole names
	(16, 'a)|(b'),
	(17, '(?i)a'),
	(18, '***=a'),
	-- what is used
	(20, '[a-z0-9-]{2,40}'),
	(21, '(dev|prod)-[a-z0-9-]+'),
	(22, '(?!admin)(?!root)[[:alpha:]][[:alnum:]_ -]{0,63}'),
	(23, '[A-Za-z0-9._ -]{1,64}'),
	(24, '.{0,255}'),
	(25, '([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]{1,20}'),
	(28, '[a-z]{1,20}(-[a-z]{1,20}){0,4}'),
	(26, '(alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega)(-(alpha|beta|gamma|delta|[0-9]+))?'),
	(27, '[\]]?\([)(]?\\1a{2}b{1,}c{,}[]a][^]a]*'),
	(29, '(production|staging|development)-[A-Za-z0-9._-]{1,64}'),
	(30, '([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]{2,63}'),
	(40, '^(?:(?!--)[a-z-]){2,40}$'),
	(41, '(?:^|-)(?:(?!foo).)*(?<!-)(^b)*(?:^c|$)?'),
	(42, '^dev-\w+$|^test-\w+$|^prod-\w+$|^\y.*\y$'),
	(43, '(a*b?)*[\^$]*[[:alpha:]<:>]{0,3}');
CREATE FUNCTION regress_setting(value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	rule text;
BEGIN
	UPDATE apikey_projects SET name_pattern = value WHERE path = 'acme/pay';
	RETURN 'set';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, rule = CONSTRAINT_NAME;
	RETURN concat_ws(' ', SQLSTATE, rule, detail);
END
$$;
SET ROLE regress_apikey_olga;
SELECT n, regress_setting(pattern) FROM patterns ORDER BY n;
RESET ROLE;
-- whoever makes or renames a key is refused where such a pattern is there already,
-- whatever its name, and nothing is compiled of it
CREATE FUNCTION regress_make() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	rule text;
BEGIN
	PERFORM apikey_create((SELECT string_agg(chr(64 + i), '') FROM generate_series(1, 62) i WHERE chr(64 + i) ~ '\w'), 'acme/pay');
	RETURN 'made';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, rule = CONSTRAINT_NAME;
	RETURN concat_ws(' ', SQLSTATE, rule, detail);
END
$$;
CREATE FUNCTION regress_restored(value text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	UPDATE apikey_project SET name_pattern = value;
	SET LOCAL ROLE regress_apikey_bob;
	value := regress_make();
	RESET ROLE;
	RETURN value;
END
$$;
SELECT n, regress_restored(pattern) FROM patterns WHERE n IN (1, 3, 9, 10, 14, 15) ORDER BY n;
SELECT regress_restored(repeat('a', 10000));
SELECT regress_restored('\w+');
-- the owner changes it
SET ROLE regress_apikey_olga;
SELECT regress_setting('[A-Z]+');
SET ROLE regress_apikey_bob;
SELECT apikey_create('ABC', 'acme/pay') IS NOT NULL AS made;
SELECT apikey_create('abc', 'acme/pay');
RESET ROLE;
DROP FUNCTION regress_setting, regress_restored, regress_make;
DROP TABLE patterns;
RESET statement_timeout;
SELECT apikey_organization_drop('acme', 'acme');
DROP ROLE regress_apikey_olga, regress_apikey_bob;
