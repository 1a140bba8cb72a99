# Of a database that is gone nothing is kept in memory, whoever dropped it: no
# worker goes there, and a member reports others in its place.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '500ms'
apikey.max_tracked_keys = 16
cluster_name = 'primary'
max_worker_processes = 20
log_min_messages = 'debug1'
autovacuum = off
});
$primary->start;
sub sql { return $primary->safe_psql('postgres', @_) }
sql('CREATE ROLE fleet LOGIN; CREATE DATABASE gone; CREATE DATABASE stays; CREATE DATABASE bulky');
for my $database ('postgres', 'gone', 'stays', 'bulky')
{
	$primary->safe_psql($database, q{SET client_min_messages = warning; CREATE EXTENSION apikey CASCADE});
	$primary->safe_psql($database, q{SELECT apikey_grant('servers', 'fleet')});
}
my %keys = map { $_ => $primary->safe_psql($_, q{SELECT apikey_create('used')}) } 'gone', 'stays';

# How often a worker is started in a while, which each visit of a database takes.
sub visits
{
	my ($node) = @_;
	my $from = -s $node->logfile;
	sleep 4;
	return scalar(() = slurp_file($node->logfile, $from) =~ /starting background worker process "apikey worker/g);
}

# What is to be counted of digests ends with the database, or its tables.
sub flush_each
{
	my ($interval) = @_;
	sql("ALTER SYSTEM SET apikey.flush_interval = '$interval'; SELECT pg_reload_conf()");
	ok($primary->poll_query_until('bulky', "SELECT current_setting('apikey.flush_interval') = '$interval'"), "a flush each $interval");
}
for my $how ('extension', 'database')
{
	$primary->safe_psql('bulky', q{SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS apikey CASCADE;
		INSERT INTO apikey_digest SELECT gen_random_uuid(), sha256(i::text::bytea), 0 FROM generate_series(1, 60000) i});
	sql('SELECT apikey_flush()');
	flush_each('1h');
	is($primary->safe_psql('bulky', q{SELECT value FROM apikey_health() WHERE name = 'peppers'}), 'not counted', 'there is much to be counted');
	$how eq 'extension' ? $primary->safe_psql('bulky', 'DROP EXTENSION apikey') : sql('DROP DATABASE bulky');
	sql("ALTER SYSTEM SET apikey.flush_interval = '500ms'; SELECT pg_reload_conf()");
	sleep 2;
	is(visits($primary), 0, "no worker looks for what was to be counted once the $how is gone");
}

# A standby that is a member, and one that is not: each has uses to tell of two
# databases, of which one is dropped.
$primary->backup('backup');
my %standbys = map { $_ => PostgreSQL::Test::Cluster->new($_) } 'member', 'plain';
for my $name (sort keys %standbys)
{
	my $node = $standbys{$name};
	$node->init_from_backup($primary, 'backup', has_streaming => 1);
	$node->append_conf('postgresql.conf', "cluster_name = '$name'");
	$node->append_conf('postgresql.conf', "apikey.fleet = on\napikey.fleet_interval = '200ms'\napikey.primary_conninfo = '@{[$primary->connstr]} user=fleet'")
	  if $name eq 'member';
	$node->start;
}
my $uses = sub {
	my ($node, $database, $count) = @_;
	return $node->safe_psql($database, qq{SELECT count(*) FROM generate_series(1, $count) i, apikey_verify('$keys{$database}' || repeat('', i)) WHERE valid});
};
is($uses->($standbys{plain}, $_, 3), '3', "$_ is used") for sort keys %keys;
is($uses->($standbys{member}, $_, 2), '2', "$_ is used on the member") for sort keys %keys;
ok($primary->poll_query_until($_, q{SELECT use_count = 2 FROM apikeys WHERE name = 'used'}), "$_ is reported") for sort keys %keys;

# More databases than a member has room for, one after the other.
my @many = map { "many_$_" } 1 .. 66;
sql("CREATE DATABASE $_") for @many;
ok($standbys{member}->poll_query_until('postgres', q{SELECT count(*) = 71 FROM pg_database}), 'the databases are there');
sleep 12;
sql("DROP DATABASE $_") for @many;
# The member keeps a connection there.
sql('DROP DATABASE gone WITH (FORCE)');
sql('CREATE DATABASE late');
$primary->safe_psql('late', q{SET client_min_messages = warning; CREATE EXTENSION apikey CASCADE});
$primary->safe_psql('late', q{SELECT apikey_grant('servers', 'fleet')});
$keys{late} = $primary->safe_psql('late', q{SELECT apikey_create('used')});
$primary->wait_for_catchup($_) for map { $standbys{$_} } sort keys %standbys;
is($uses->($standbys{member}, 'late', 4), '4', 'a database that came later is used');
ok($primary->poll_query_until('late', q{SELECT use_count = 4 FROM apikeys WHERE name = 'used'}), 'and reported in the place of one that is gone');

# What a standby has left is nobody's once it is promoted.
my %written = (plain => 5, member => 2);
my %held = (plain => 1, member => 2);
for my $name ('plain', 'member')
{
	my $node = $standbys{$name};
	$node->promote;
	ok($node->poll_query_until('stays', qq{SELECT use_count = $written{$name} FROM apikey_usage}), "$name, promoted: what is there is written");
	sleep 3;
	is(visits($node), 0, "$name: and no worker looks for what is gone");
	like($node->safe_psql('postgres', q{SELECT value FROM apikey_health() WHERE name = 'slots'}), qr/^$held{$name} of 16/, "$name: which holds no memory");
	$node->stop;
}
$primary->stop;
done_testing();
