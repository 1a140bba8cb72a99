# Who is moved from a project to its organization, or back, by one transaction,
# is a member all the time: what it is is read in one snapshot.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\nfsync = off");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE ROLE anna;
	SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay'), apikey_member_add('acme/pay', 'anna', 'admin');
	CREATE PROCEDURE move(times integer) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. times LOOP
			PERFORM apikey_member_add('acme', 'anna', 'admin'), apikey_member_remove('acme/pay', 'anna');
			COMMIT;
			PERFORM apikey_member_add('acme/pay', 'anna', 'admin'), apikey_member_remove('acme', 'anna');
			COMMIT;
		END LOOP;
	END $$;});
my $key = $node->safe_psql('postgres', q{SET ROLE anna; SELECT apikey_create('hers', 'acme/pay')});
my ($out, $err) = ('', '');
my $mover = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'CALL move(1500)' ],
	'>', \$out, '2>', \$err, IPC::Run::timeout(180));
my $verified = $node->safe_psql('postgres', qq{
	CREATE FUNCTION verify() RETURNS text LANGUAGE plpgsql AS \$\$
	DECLARE
		codes text[] := '{}';
		code text;
		times integer := 0;
	BEGIN
		WHILE EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CALL move%') OR times = 0 LOOP
			PERFORM pg_stat_clear_snapshot();
			FOR i IN 1 .. 1000 LOOP
				code := (SELECT v.code FROM apikey_verify('$key', project => 'acme/pay') v);
				IF code <> ALL (codes) THEN codes := codes || code; END IF;
			END LOOP;
			times := times + 1;
		END LOOP;
		RETURN codes;
	END \$\$;
	SELECT verify()});
$mover->finish;
is($err, '', 'she was moved');
is($verified, '{valid}', 'and her key was valid all the time');
$node->stop;
done_testing();
