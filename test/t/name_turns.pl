# Several who give a name and take it back in turn, before whoever gives it too
# gets there, hold that up no longer than one who keeps it: 5 seconds.  So that
# each time another one is the first, whoever waits is stopped meanwhile.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'");
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION apikey CASCADE;
	CREATE ROLE anna; CREATE ROLE bob; CREATE ROLE carl;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay');
	SELECT apikey_create('own'), apikey_create('there', 'acme/pay');
	CREATE FUNCTION timed(call text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		answer text := 'done';
	BEGIN
		BEGIN
			EXECUTE call;
		EXCEPTION WHEN OTHERS THEN
			answer := SQLSTATE;
		END;
		RETURN answer || ' ' || extract(epoch FROM clock_timestamp() - statement_timestamp());
	END $$});

# What each does, and what a rival has that is in its way.
my %calls = (
	'a key' => ["SELECT apikey_create('x1')", "SELECT apikey_create('x1')"],
	'a key that is renamed' => ["SELECT apikey_rename(id, 'y1') FROM apikeys WHERE name = 'own'", "SELECT apikey_create('y1')"],
	'a project\'s key' => ["SELECT apikey_create('x1', 'acme/pay')", "SELECT apikey_create('x1', 'acme/pay')"],
	'a project\'s key that is renamed' => ["SELECT apikey_rename(id, 'y1') FROM apikeys WHERE name = 'there'", "SELECT apikey_create('y1', 'acme/pay')"],
	'an imported key' => ["SELECT apikey_import('i1', 'sha256', encode(sha256('i'), 'hex'))", "SELECT apikey_import('j1', 'sha256', encode(sha256('i'), 'hex'))"],
	'a project' => ["SELECT apikey_project_create('acme/xx')", "SELECT apikey_project_create('acme/xx')"],
	'an organization' => ["SELECT apikey_organization_create('xx')", "SELECT apikey_organization_create('xx')"]);
my @names = sort keys %calls;

my @rivals = map { $node->background_psql('postgres') } 1 .. 2;
my %waits = map { $_ => $node->background_psql('postgres') } @names;
my %pid = map { $_ => $waits{$_}->query_safe('SELECT pg_backend_pid()') } @names;
my $take = sub { $_[0]->query_safe('BEGIN; ' . join '; ', map { $calls{$_}[1] } @names) };
my $pids = join ',', values %pid;

$take->($rivals[0]);
for my $name (@names)
{
	my $call = $calls{$name}[0] =~ s/'/''/gr;
	$waits{$name}->query_until(qr/begun/, "\\echo begun\nSELECT timed('$call');\n");
}
$node->poll_query_until('postgres', "SELECT count(*) = " . @names . " FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event_type = 'Lock'")
  or die 'not all wait';
for my $turn (1 .. 5)
{
	sleep(1.5);
	kill STOP => values %pid;
	$rivals[($turn + 1) % 2]->query_safe('ROLLBACK');
	$take->($rivals[$turn % 2]);
	kill CONT => values %pid;
}
$rivals[1]->query_safe('ROLLBACK');
for my $name (@names)
{
	my ($state, $seconds) = split / /, $waits{$name}->query_safe("SELECT 1") =~ s/\n.*//sr;
	is($state, '55P03', "$name is refused");
	cmp_ok($seconds, '<', 5.6, 'in time');
	cmp_ok($seconds, '>', 4.9, 'and not before');
}
# Nothing of it stays.
is($node->safe_psql('postgres', 'SET lock_timeout = 0; SHOW lock_timeout'), '0', 'lock_timeout is what it was');
$_->quit for @rivals, values %waits;
$node->stop;
done_testing();
