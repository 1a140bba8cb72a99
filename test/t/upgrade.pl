# The step from 0.1.0 leads to what a fresh install gives, and keeps what a
# database of 0.1.0 holds; so does a dump of it that is restored here.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', qq{
	shared_preload_libraries = 'apikey'
	apikey.flush_interval = '200ms'});
$node->start;

my ($current) = slurp_file('apikey.control') =~ /^default_version\s*=\s*'([^']+)'/m;

# Everything that an extension is made of, and what there is to say of it.
my $describe = q{
	SET search_path = pg_catalog;
	WITH member AS (
		SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
			FROM pg_depend d
			JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
			WHERE e.extname = 'apikey' AND d.deptype = 'e'),
	relation AS (SELECT m.name, c.* FROM member m JOIN pg_class c ON c.oid = m.objid
		WHERE m.classid = 'pg_class'::regclass)
	SELECT format('%s: %s', name, trim(line)) FROM (
		SELECT name, concat('comment ', obj_description(objid, classid::regclass::name)) AS line FROM member
		UNION ALL
		SELECT m.name, concat(pg_get_functiondef(p.oid), ' ', p.proowner::regrole)
			FROM member m JOIN pg_proc p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass
		UNION ALL
		SELECT m.name, concat('may ', a)
			FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass,
			LATERAL unnest(p.proacl) a
		UNION ALL
		SELECT m.name, concat('type ', t.typtype, ' ', t.typacl, ' ',
				(SELECT string_agg(enumlabel, ' ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
			FROM member m JOIN pg_type t ON t.oid = m.objid
			WHERE m.classid = 'pg_type'::regclass AND t.typrelid = 0 AND t.typelem = 0
		UNION ALL
		SELECT name, concat('relation ', relkind, ' ', relowner::regrole, ' ', relpersistence,
				' ', (SELECT amname FROM pg_am WHERE oid = relam), ' ', reloptions,
				' ', relrowsecurity, ' ', relforcerowsecurity, ' ', relreplident)
			FROM relation
		UNION ALL
		SELECT name, concat('may ', a) FROM relation, LATERAL unnest(relacl) a
		UNION ALL
		SELECT r.name, concat('column ', attnum, ' ', attname, ' ', format_type(atttypid, atttypmod),
				' ', attnotnull, ' ', attidentity, attgenerated, ' ', attstorage,
				' ', coalesce(attstattarget, -1), ' ', attcollation::regcollation, ' ',
				(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum),
				' ', attacl, ' ', col_description(attrelid, attnum))
			FROM relation r JOIN pg_attribute ON attrelid = r.oid WHERE attnum > 0 AND NOT attisdropped
		UNION ALL
		SELECT r.name, concat('dropped columns ', count(*))
			FROM relation r JOIN pg_attribute ON attrelid = r.oid WHERE attisdropped GROUP BY 1
		UNION ALL
		SELECT r.name, concat('constraint ', conname, ' ', pg_get_constraintdef(c.oid), ' ', obj_description(c.oid, 'pg_constraint'))
			FROM relation r JOIN pg_constraint c ON conrelid = r.oid
		UNION ALL
		SELECT r.name, concat('index ', pg_get_indexdef(indexrelid), ' ', obj_description(indexrelid, 'pg_class'))
			FROM relation r JOIN pg_index ON indrelid = r.oid
		UNION ALL
		SELECT r.name, concat('trigger ', pg_get_triggerdef(t.oid), ' ', tgenabled)
			FROM relation r JOIN pg_trigger t ON tgrelid = r.oid WHERE NOT tgisinternal
		UNION ALL
		SELECT r.name, concat('policy ', polname, ' ', polcmd, ' ', polroles, ' ',
				pg_get_expr(polqual, polrelid), ' ', pg_get_expr(polwithcheck, polrelid))
			FROM relation r JOIN pg_policy ON polrelid = r.oid
		UNION ALL
		SELECT r.name, concat('view ', pg_get_viewdef(r.oid)) FROM relation r WHERE relkind = 'v'
		UNION ALL
		SELECT r.name, concat('dumped ', x.condition)
			FROM pg_extension e, LATERAL unnest(e.extconfig, e.extcondition) AS x (id, condition)
			JOIN relation r ON r.oid = x.id
			WHERE e.extname = 'apikey') AS o
		ORDER BY name COLLATE "C", line COLLATE "C"};

sub describe
{
	my ($database) = @_;
	return [split /\n/, $node->safe_psql($database, $describe)];
}

# For a role that is no superuser, into a schema of its own.
$node->safe_psql('postgres', q{
	CREATE ROLE dba LOGIN;
	CREATE ROLE web;
	CREATE DATABASE fresh OWNER dba;
	CREATE DATABASE updated OWNER dba;});
$node->safe_psql($_, q{
	SET SESSION AUTHORIZATION dba;
	CREATE SCHEMA auth;
	CREATE EXTENSION pgcrypto;}) for qw(fresh updated);
# As hosts of databases set them: they open nothing of ours.
$node->safe_psql($_, q{
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO web WITH GRANT OPTION;
	ALTER DEFAULT PRIVILEGES IN SCHEMA auth GRANT ALL ON TABLES TO web;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO web;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO web;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO web;
	ALTER DEFAULT PRIVILEGES GRANT SELECT, TRUNCATE ON TABLES TO PUBLIC}) for qw(fresh updated);
$node->safe_psql('fresh', 'SET SESSION AUTHORIZATION dba; CREATE EXTENSION apikey SCHEMA auth');
# Its dumps resolve names that the schema's owner can move.
my $create_first = "CREATE EXTENSION apikey SCHEMA auth VERSION '0.1.0'";
my ($rc, $out, $err) = $node->psql('updated', "SET SESSION AUTHORIZATION dba; $create_first");
like($err, qr/permission denied to create extension "apikey"/, 'only a superuser installs 0.1.0 any more');
# What 0.1.0 has done where its installer was none.
$node->safe_psql('updated', qq{
	$create_first;
	UPDATE pg_extension SET extowner = 'dba'::regrole WHERE extname = 'apikey';
	REVOKE GRANT OPTION FOR EXECUTE ON FUNCTION auth.apikey_organization_create, auth.apikey_import FROM CURRENT_USER;
	REVOKE GRANT OPTION FOR SELECT ON auth.apikey_stats FROM CURRENT_USER;
	GRANT EXECUTE ON FUNCTION auth.apikey_organization_create, auth.apikey_import TO dba WITH GRANT OPTION;
	GRANT SELECT ON auth.apikey_stats TO dba WITH GRANT OPTION});
$node->safe_psql('updated', 'SET SESSION AUTHORIZATION dba; ALTER EXTENSION apikey UPDATE');
my $fresh = describe('fresh');
cmp_ok(scalar @$fresh, '>', 500, 'an extension is made of much');
is(join(' ', grep { /: may .*\bweb=/ } @$fresh, @{ describe('updated') }), '', 'default privileges have given nothing of it away');
is_deeply(describe('updated'), $fresh, 'updated is as fresh')
  or do
{
	my %in_fresh = map { $_ => 1 } @$fresh;
	my %in_updated = map { $_ => 1 } @{ describe('updated') };
	diag("fresh only: $_") for grep { !$in_updated{$_} } sort keys %in_fresh;
	diag("updated only: $_") for grep { !$in_fresh{$_} } sort keys %in_updated;
};

# Privileges of functions that are made anew are not kept in silence.
$node->safe_psql('postgres', 'CREATE DATABASE told');
$node->safe_psql('told', q{
	CREATE EXTENSION apikey VERSION '0.1.0' CASCADE;
	REVOKE EXECUTE ON FUNCTION apikey_check FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION apikey_rotate TO dba});
($rc, $out, $err) = $node->psql('told', 'ALTER EXTENSION apikey UPDATE');
is(join(' ', $err =~ /WARNING:  function "(\w+)" may be called by everybody again/g), 'apikey_check apikey_rotate',
	'what was granted or revoked of them is told');
like($err, qr/DETAIL:  Its privileges were \{.*dba=X/, 'and how it was');

# What each key of that database is worth, whoever it belongs to.
my $data = slurp_file('test/data/0.1.0.sql');
my %key = $data =~ /^-- (\w+) +(\S*[a-z]\S*\d\S*)$/mg;
my %expected = (
	personal => 'valid', limited => 'valid', credits => 'valid',
	project => 'valid', revoked => 'revoked', disabled => 'disabled',
	rotated => 'valid', successor => 'valid', bob => 'valid',
	gone => 'not_found', imported => 'valid', bcrypt => 'valid');
is(join(' ', sort keys %key), join(' ', sort keys %expected), 'the keys are there');

sub whose
{
	my ($name) = @_;
	return $name =~ /^(project|bob)$/ ? q{project => 'acme/payments'} : q{owner => 'regress_apikey_anna'};
}

sub codes
{
	my ($database) = @_;
	return join "\n", map { "$_ " . $node->safe_psql($database,
			"SELECT code FROM apikey_verify('$key{$_}', " . whose($_) . ')') } sort keys %key;
}
my $codes = join "\n", map { "$_ $expected{$_}" } sort keys %expected;

# Its events have the numbers that roles had where they were written: here those of
# anna and bob or, as where a dump was restored under 0.1.0, of others.
sub load
{
	my ($database, $version, $anna, $bob) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION apikey VERSION '$version' CASCADE");
	command_ok(['psql', '-X', '-q', '-d', $node->connstr($database), '-v', 'ON_ERROR_STOP=1',
			'-v', 'schema=public', '-f', 'test/data/0.1.0.sql'], "the rows of 0.1.0 are loaded into $version");
	return if $version ne '0.1.0';
	my @numbers = map { "$_ = CASE $_ WHEN 16613 THEN 'regress_apikey_$anna'::regrole
		WHEN 16614 THEN 'regress_apikey_$bob'::regrole ELSE $_ END" } qw(key_owner actor_oid);
	$node->safe_psql($database, 'UPDATE apikey_event SET ' . join ', ', @numbers);
}

sub unload
{
	my ($database) = @_;
	$node->safe_psql($database, 'DROP EXTENSION apikey');
	$node->safe_psql('postgres', "DROP DATABASE $database");
	$node->safe_psql('postgres', 'DROP ROLE regress_apikey_anna, regress_apikey_bob');
}

# In place, under a session that had verified before.
load('in_place', '0.1.0', 'anna', 'bob');
my $warm = $node->background_psql('in_place', on_error_stop => 0);
my $before = $warm->query("SELECT code FROM apikey_verify('$key{personal}', owner => 'regress_apikey_anna')");
is($before, 'valid', 'the SQL of 0.1.0 verifies with this library');
$node->safe_psql('in_place', 'ALTER EXTENSION apikey UPDATE');
is($warm->query("SELECT code FROM apikey_verify('$key{personal}', owner => 'regress_apikey_anna')"),
	'valid', 'a warm session goes on verifying after the update');
$node->safe_psql('in_place', q{
	SET ROLE regress_apikey_anna;
	SELECT apikey_revoke(id) FROM apikeys WHERE name = 'personal'});
is($warm->query("SELECT code FROM apikey_verify('$key{personal}', owner => 'regress_apikey_anna')"),
	'revoked', 'and hears of a revoke');
$warm->quit;
$expected{personal} = 'revoked';
is(codes('in_place'), join("\n", map { "$_ $expected{$_}" } sort keys %expected), 'every key is what it was');
$expected{personal} = 'valid';

my $rows = q{
	SET ROLE regress_apikey_anna;
	SELECT name, status, credits FROM apikeys WHERE name IN ('credits', 'project', 'bobs', 'disabled', 'bcrypt') ORDER BY name;
	SELECT path, member, role FROM apikey_members ORDER BY path, member::text;
	SELECT path, members_can_view FROM apikey_projects;};
like($node->safe_psql('in_place', $rows), qr/^bcrypt\|active\|
bobs\|active\|
credits\|active\|89\d
disabled\|disabled\|
project\|active\|
acme\|regress_apikey_anna\|owner
acme\/payments\|regress_apikey_bob\|admin
acme\/payments\|t$/, 'the views show what they did');
is($node->safe_psql('in_place', q{SELECT count(*) FROM apikey_events WHERE id <= 26}), 26, 'the audit log is whole');
is($node->safe_psql('in_place', q{
	SET ROLE regress_apikey_bob;
	SELECT string_agg(event || ' ' || key_name, ', ' ORDER BY id) FROM apikey_events WHERE id <= 26}),
	'created bobs', 'and shown to whom it concerns');
$node->safe_psql('in_place', q{SET ROLE regress_apikey_anna; SELECT apikey_create('after')});

unload('in_place');

# An event of a key that is gone is its former owner's, where the log shows that its
# numbers are of roles here: whoever has one of elsewhere is shown nothing of it.
sub told
{
	my (@numbers) = @_;
	load('told_of', '0.1.0', @numbers);
	$node->safe_psql('told_of', q{
		SET session_replication_role = replica;
		DELETE FROM apikey_key WHERE name IN ('revoked', 'bobs');
		RESET session_replication_role;
		ALTER EXTENSION apikey UPDATE});
	my @told = map { $node->safe_psql('told_of', qq{
		SET ROLE regress_apikey_$_;
		SELECT string_agg(event || ' ' || key_name, ', ' ORDER BY id) FROM apikey_events
			WHERE key_name IN ('personal', 'revoked', 'bobs')}) } qw(anna bob);
	unload('told_of');
	return \@told;
}
is_deeply(told('anna', 'bob'), ['created personal, created revoked, revoked revoked, created bobs, denied revoked', 'created bobs'],
	'by numbers of roles here');
is_deeply(told('bob', 'anna'), ['created personal, created bobs', ''], 'by numbers of roles elsewhere');

# A dump of 0.1.0, restored into a new database of the present version.
load('restored', $current);
is(codes('restored'), $codes, 'every key of a restored dump is what it was');
like($node->safe_psql('restored', $rows), qr/credits\|active\|89\d/, 'with its credits');

$node->stop;
done_testing();
