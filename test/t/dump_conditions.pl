# The conditions of a dump name nothing that the schema's owner could move, and
# what they leave in is nobody's where it is restored; a dump of 0.1.0 is taken.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->start;
my $dir = PostgreSQL::Test::Utils::tempdir();

sub restore
{
	my ($cluster, $database, $file) = @_;
	$cluster->safe_psql('postgres', "CREATE DATABASE $database");
	$cluster->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, $database ],
		"restore into $database");
}

# A database's owner moves the schema, and puts into its place a table that
# looks like ours, whose column runs a function of his when it is compared.
$node->safe_psql('postgres', q{CREATE ROLE mallory LOGIN; CREATE ROLE anna});
$node->safe_psql('postgres', 'CREATE DATABASE app OWNER mallory');
my @mallory = (extra_params => [ '-U', 'mallory' ]);
$node->safe_psql('app', q{
	CREATE SCHEMA auth;
	CREATE EXTENSION apikey SCHEMA auth CASCADE;
	GRANT USAGE ON SCHEMA auth TO PUBLIC}, @mallory);
my $key = $node->safe_psql('app', q{SET ROLE anna; SELECT auth.apikey_create('one')});
my $pg_dump = sub {
	my ($what) = @_;
	$node->command_ok([ 'pg_dump', '-f', "$dir/app.sql", 'app' ], $what);
};
$node->safe_psql('app', 'ALTER SCHEMA auth RENAME TO moved', @mallory);
$pg_dump->('a dump after the schema was renamed');
$node->safe_psql('app', q{
	CREATE SCHEMA auth;
	CREATE TYPE auth.lookalike AS (value text);
	CREATE FUNCTION auth.to_uuid(auth.lookalike) RETURNS uuid LANGUAGE plpgsql AS $$
	BEGIN
		ALTER ROLE mallory SUPERUSER;
		RETURN '00000000-0000-0000-0000-000000000000';
	END $$;
	CREATE CAST (auth.lookalike AS uuid) WITH FUNCTION auth.to_uuid AS IMPLICIT;
	CREATE TABLE auth.apikey_key (id auth.lookalike, owner oid, credits_account auth.lookalike);
	INSERT INTO auth.apikey_key VALUES (ROW('x'), 10, ROW('x'));
	CREATE FUNCTION auth.unlike(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		ALTER ROLE mallory SUPERUSER;
		RETURN true;
	END $$;
	CREATE OPERATOR auth.!~ (LEFTARG = text, RIGHTARG = text, FUNCTION = auth.unlike);
	ALTER DATABASE app SET search_path = auth, pg_catalog}, @mallory);
$pg_dump->('and with look-alikes of what the conditions named');
is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'which run nothing');
$other->safe_psql('postgres', 'CREATE ROLE one; CREATE ROLE mallory; CREATE ROLE anna');
restore($other, 'app', "$dir/app.sql");
is($other->safe_psql('app', "SELECT owner, status FROM moved.apikeys WHERE id = moved.apikey_id('$key')"),
	'anna|active', 'the keys are there');

# What no condition leaves out is nobody's: a digest, an import, an account.
$node->safe_psql('postgres', q{CREATE DATABASE gone; CREATE ROLE leaver; CREATE ROLE "7th"; CREATE ROLE voucher});
my $leavers = $node->safe_psql('gone', q{
	CREATE EXTENSION apikey CASCADE;
	GRANT EXECUTE ON FUNCTION apikey_import TO leaver;
	DO $$ BEGIN PERFORM apikey_grant('administer', 'leaver'); END $$;
	SET ROLE leaver;
	SELECT apikey_create('lasting', credits => 7) FROM apikey_import('imported', 'md5', md5('from elsewhere'));});
my $seventh = $node->safe_psql('gone', q{SET ROLE "7th"; SELECT apikey_create('seventh')});
my $vouched = $node->safe_psql('gone', q{SET ROLE anna; SELECT apikey_create('vouched')});
$node->safe_psql('gone', qq{UPDATE apikey_key SET vouched_by = 'voucher', vouched_by_name = 'voucher' WHERE id = apikey_id('$vouched')});
$node->safe_psql('gone', 'REVOKE EXECUTE ON FUNCTION apikey_import FROM leaver');
my ($oid, $voucher) = split /\|/, $node->safe_psql('gone', q{SELECT 'leaver'::regrole::oid, 'voucher'::regrole::oid});
$node->safe_psql('postgres', 'DROP ROLE leaver; DROP ROLE voucher');
$node->command_ok([ 'pg_dump', '-f', "$dir/gone.sql", 'gone' ], 'a dump after roles were dropped');
# There, somebody has each of their numbers and names.
$other->safe_psql('postgres', q{CREATE ROLE leaver; CREATE ROLE voucher; CREATE ROLE "7th"});
$other->safe_psql('postgres', qq{DO \$\$ BEGIN
	WHILE (SELECT count(*) FROM pg_roles WHERE oid IN ($oid, $voucher)) < 2 LOOP
		EXECUTE 'CREATE ROLE taker' || (SELECT count(*) FROM pg_roles);
		EXIT WHEN (SELECT max(oid::bigint) FROM pg_roles) > $voucher;
	END LOOP; END \$\$});
is($other->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE oid IN ($oid, $voucher)"), '2', 'their OIDs are others\'');
restore($other, 'gone', "$dir/gone.sql");
is($other->safe_psql('gone', q{SELECT name FROM apikeys ORDER BY 1}), 'seventh', 'their keys are not there');
is($other->safe_psql('gone', q{SELECT count(*) FROM apikey_digest}), '3', 'though something of them is');
my $code = sub { return $other->safe_psql('gone', "SELECT code FROM apikey_verify('$_[0]', owner => '$_[1]')") };
is($code->($leavers, 'leaver'), 'not_found', 'a dropped role\'s key is not');
is($code->('from elsewhere', 'leaver'), 'malformed', 'nor its imported one');
is($code->($vouched, 'anna'), 'not_found', 'nor one for which a dropped role vouches');
is($code->($seventh, '7th'), 'valid', 'but one of a role whose name begins with a digit');
is($other->safe_psql('gone', q{SELECT count(apikey_import('again', 'md5', md5('from elsewhere')))}), '1', 'its hash may be imported again');
is($code->('from elsewhere', 'postgres'), 'valid', 'and is the new key\'s');


# A dropped administrator's number may even come to a role of the same name.
my $taker = $other->safe_psql('gone', "SELECT $oid\::regrole");
$other->safe_psql('gone', "ALTER ROLE leaver RENAME TO other; ALTER ROLE $taker RENAME TO leaver") if $taker ne 'leaver';
is($other->safe_psql('gone', q{SET ROLE leaver; SELECT count(*) FROM apikeys}), '0', 'who administered does not by another\'s right');

# A role that was renamed since its key was made is known by its new name.
$node->safe_psql('postgres', 'CREATE ROLE carl; CREATE DATABASE renamed');
my $carls = $node->safe_psql('renamed', q{CREATE EXTENSION apikey CASCADE; SET ROLE carl; SELECT apikey_create('one')});
$node->safe_psql('postgres', 'ALTER ROLE carl RENAME TO charles');
$node->command_ok([ 'pg_dump', '-f', "$dir/renamed.sql", 'renamed' ], 'a dump after a rename');
$other->safe_psql('postgres', 'CREATE ROLE charles');
restore($other, 'renamed', "$dir/renamed.sql");
is($other->safe_psql('renamed', "SELECT code, owner FROM apikey_verify('$carls', owner => 'charles')"), 'valid|charles', 'a renamed role keeps its key');

# A dump of 0.1.0 goes into this version, without its newer columns.
$node->safe_psql('postgres', 'CREATE DATABASE first');
$node->safe_psql('first', q{CREATE EXTENSION apikey VERSION '0.1.0' CASCADE});
my $sevenths = $node->safe_psql('gone', qq{SELECT d.* FROM apikey_digest d WHERE id = apikey_id('$seventh')});
my ($id, $digest, $pepper) = split /\|/, $sevenths;
$node->safe_psql('first', qq{
	INSERT INTO apikey_organization VALUES ('$id', 'acme', now());
	INSERT INTO apikey_project VALUES ('$id', '$id', 'acme/pay', now(), false, NULL, NULL, NULL, NULL, false);
	INSERT INTO apikey_member VALUES ('$id', '$id', '$id', NULL, '7th', '7th', 'admin', now(), 'postgres');
	INSERT INTO apikey_digest VALUES ('$id', '$digest', $pepper);
	INSERT INTO apikey_key (id, project, owner, role, disabled, created_at, owner_name, prefix, last_four, name, scopes, metadata)
		VALUES ('$id', '$id', '7th', 'admin', false, now(), '7th', 'ak', 'xxxx', 'seventh', '{}', '{}')});
$node->command_ok([ 'pg_dump', '-f', "$dir/first.sql", 'first' ], 'a dump of 0.1.0');
restore($other, 'first', "$dir/first.sql");
is( $other->safe_psql('first', qq{SELECT extversion, code, role FROM pg_extension, apikey_verify('$seventh', project => 'acme/pay') WHERE extname = 'apikey'}),
	$node->safe_psql('gone', q{SELECT extversion FROM pg_extension WHERE extname = 'apikey'}) . '|valid|admin',
	'its keys verify here');

$_->stop for $node, $other;
done_testing();
