# What all of a server share, and one role can take all of: verifications raise
# nothing for it where PostgreSQL lets them, and what fails goes on afterwards.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
apikey.notify = on
max_connections = 20
max_wal_senders = 0
max_locks_per_transaction = 20
max_pred_locks_per_transaction = 10
});
$node->start;
my $major = int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);
$node->append_conf('postgresql.conf', 'max_notify_queue_pages = 64') if $major >= 17;
$node->restart if $major >= 17;
sub sql { return $node->safe_psql('postgres', @_) }
sql('CREATE EXTENSION apikey CASCADE; CREATE ROLE eve; CREATE ROLE anna');
my ($key, $other) = map { sql("SET ROLE anna; SELECT apikey_create('$_')") } qw(one two);
for my $from (0 .. 9)
{
	sql(join ';', map { "CREATE TABLE held$_ (); GRANT SELECT ON held$_ TO eve" } $from * 60 .. $from * 60 + 59);
}
my ($eve, $anna) = map { $node->background_psql('postgres') } 1 .. 2;
$eve->query_safe('SET ROLE eve');
$anna->query_safe('SET ROLE anna');
sub code { my ($session, $text) = @_; return $session->query("SELECT code FROM apikey_verify('$text')") }
sub take { my ($each) = @_; return "DO \$\$ BEGIN FOR i IN 0 .. 599 LOOP BEGIN $each; EXCEPTION WHEN out_of_memory THEN RETURN; END; END LOOP; RAISE 'there is more'; END \$\$" }

note 'What serializable transactions have read.';
is(code($anna, $key), 'valid', 'at first');
$eve->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE');
$eve->query_safe(take("EXECUTE 'SELECT FROM held' || i"));
$anna->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE');
is(code($anna, $other), 'unavailable', 'none is left: a serializable verification raises nothing');
$anna->query_safe('ROLLBACK');
is(code($anna, $other), 'valid', 'another needs none');
$eve->query_safe('ROLLBACK');
$anna->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE');
is(code($anna, $key), 'valid', 'afterwards');
$anna->query_safe('COMMIT');

note 'Locks.';
my $uses = sql("SELECT sum(use_count) FROM apikeys");
$eve->query_safe('DO $$ BEGIN FOR i IN 1 .. 1000000 LOOP BEGIN PERFORM pg_advisory_lock(i); EXCEPTION WHEN out_of_memory THEN RETURN; END; END LOOP; END $$');
is(code($anna, $key), 'valid', 'none is left: a key that is remembered needs none');
$eve->query_safe('SELECT pg_advisory_unlock_all()');
sql('SELECT apikey_flush()');
is(sql('SELECT sum(use_count) FROM apikey_usage'), $uses + 1, 'the worker goes on, and nothing is lost');

SKIP:
{
	skip 'not here: before PostgreSQL 17 the queue of notifications has 8 GB', 4 if $major < 17;
	note 'Notifications.';
	sub dropped { return sql("SELECT severity || ' ' || value FROM apikey_health() WHERE name = 'notices'") }
	like(dropped(), qr/^ok .* 0 dropped/, 'none is missed');
	$eve->query_safe('LISTEN everything; BEGIN');
	my ($stdout, $stderr) = ('', '');
	for my $try (1 .. 200)
	{
		$node->psql('postgres', "SET ROLE eve; SELECT count(pg_notify('everything', repeat('x', 7000) || i)) FROM generate_series(1, 50) i", stderr => \$stderr);
		last if $stderr =~ /too many notifications/;
	}
	like($stderr, qr/too many notifications/, 'one who listens lets the queue fill');
	is(length(sql("SET ROLE anna; SELECT apikey_create('three')")), 64, 'a key is created all the same');
	sql('SELECT apikey_flush()');
	ok($node->poll_query_until('postgres', "SELECT value ~ ' 1 dropped' FROM apikey_health() WHERE name = 'notices'"), 'and monitoring is told what was not notified');
}
$_->quit for $eve, $anna;
$node->stop;
done_testing();
