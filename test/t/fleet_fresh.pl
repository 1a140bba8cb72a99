# A member that cannot show that it is fresh refuses: whatever holds up its
# replay, in sessions that remember the key too, on a standby and a cascade.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Fleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Proxy;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
autovacuum = off
});
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE ROLE fleet LOGIN;
	CREATE TABLE busy AS SELECT generate_series(1, 100) i});

# Without a fleet there is nobody who could show it.
my ($result, $stdout, $stderr) = $primary->psql('postgres',
	"\\set VERBOSITY verbose\nSET apikey.max_staleness = '2s'", on_error_stop => 0);
like($stderr, qr/ERROR:  22023: .*max_staleness.*DETAIL:  "apikey.fleet" is off/s, 'no bound without a fleet');
for my $secret ("host=db password=s3cr3t", "password = 's3cr3t' host=db", 'postgresql://u:s3cr3t@db/x',
	'postgres://db/x?sslmode=require&p%61ssword=s3cr3t', 'host=db sslpassword=s3cr3t')
{
	($result, $stdout, $stderr) = $primary->psql('postgres',
		"\\set VERBOSITY verbose\nALTER SYSTEM SET apikey.primary_conninfo = \$\$$secret\$\$", on_error_stop => 0);
	like($stderr, qr/ERROR:  22023: .*must not hold a password.*HINT: .*pgpass/s, 'a password is refused');
	unlike($stderr =~ s/LINE.*//sr, qr/s3cr3t|host=db/, 'and told nowhere');
}
for my $broken ('host', "host='db", 'postgresql://db?x', '=db')
{
	($result, $stdout, $stderr) = $primary->psql('postgres',
		"\\set VERBOSITY verbose\nALTER SYSTEM SET apikey.primary_conninfo = \$\$$broken\$\$", on_error_stop => 0);
	like($stderr, qr/ERROR:  22023: .*is no connection string/, "no connection string: $broken");
}
$primary->safe_psql('postgres', "ALTER SYSTEM SET apikey.primary_conninfo = \$\$$_\$\$")
  for ("host='a b' passfile = '/x' user=it\\'s", 'postgresql://fleet@db:5432,db2/x?sslmode=verify-full', '');
$primary->safe_psql('postgres', 'ALTER SYSTEM RESET apikey.primary_conninfo');
is($primary->safe_psql('postgres', q{SET ROLE fleet; SELECT count(*) FROM pg_settings
		WHERE name ~ '^apikey.(primary_conninfo|fleet|max_staleness)'}),
	0, 'nothing of it is shown to others');

my $wire = Proxy->new($primary);
$primary->backup('backup');
my $standby = Fleet::member('standby', $primary, $wire, q{
apikey.fleet_heartbeat = '100ms'
apikey.fleet_timeout = '1s'
apikey.max_staleness = '2s'
max_standby_streaming_delay = -1
max_standby_archive_delay = -1
});
$standby->backup('backup');
my $cascade = PostgreSQL::Test::Cluster->new('cascade');
$cascade->init_from_backup($standby, 'backup', has_streaming => 1);
$cascade->start;

my %session = map { $_->name => $_->background_psql('postgres') } $standby, $cascade;
my $code = sub {
	my ($node, $key) = @_;
	return $session{$node->name}->query_safe("SELECT code FROM apikey_verify('$key', owner => current_user::regrole)");
};
# What is answered in the end, and all that was before.
my $until = sub {
	my ($node, $key, $wanted) = @_;
	my ($end, %seen) = (time() + 180);
	while (time() < $end)
	{
		my $now = $code->($node, $key);
		$seen{$now} = 1;
		return join ' ', sort keys %seen if $now eq $wanted;
		sleep 0.02;
	}
	return 'never';
};
my ($number, $key) = (0);
my $make = sub { return $primary->safe_psql('postgres', "SELECT apikey_create('key" . ++$number . "')") };
my $revoke = sub { $primary->safe_psql('postgres', "SELECT apikey_revoke(apikey_id('$_[0]'))") };
my $everywhere = sub {
	my ($key) = @_;
	like($until->($_, $key, 'valid'), qr/valid$/, "a key is valid on the " . $_->name) for $standby, $cascade;
};
# It was valid up to now, and is held up: no yes once the bound is passed.
my $held_up = sub {
	my ($what, $key, @nodes) = @_;
	$revoke->($key);
	my $revoked = time();
	for my $node (@nodes)
	{
		like($until->($node, $key, 'unavailable'), qr/unavailable/, "$what: unavailable on the " . $node->name);
		my $after = time() - $revoked;
		is($code->($node, $key), 'unavailable', 'and stays so');
	}
	is($session{$nodes[0]->name}->query_safe("SELECT apikey_check('$key', owner => current_user::regrole)"), 'f', 'for other forms too');
};
my $then_revoked = sub { unlike($until->($_[0], $key, 'revoked'), qr/valid|never/, 'revoked after it, and not valid before') };

$key = $make->();
$everywhere->($key);
is($standby->safe_psql('postgres', "SELECT code FROM apikey_verify('ak_wrong')"), 'malformed', 'what no table tells stays as it is');

# Paused.
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$standby->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'});
$held_up->('a paused replay', $key, $standby);
is($standby->safe_psql('postgres', "SELECT code FROM apikey_verify('ak_wrong')"), 'malformed', 'a malformed text needs no freshness');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
$then_revoked->($standby);
like($until->($cascade, $key, 'revoked'), qr/revoked/, 'on the cascade too');

# The cascade alone.
$key = $make->();
$everywhere->($key);
$cascade->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
$held_up->('a paused cascade', $key, $cascade);
like($until->($standby, $key, 'revoked'), qr/revoked/, 'its upstream is not');
$cascade->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
$then_revoked->($cascade);

# A query on the standby that holds up replay.
$key = $make->();
$everywhere->($key);
my $query = $standby->background_psql('postgres');
$query->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM busy');
$primary->safe_psql('postgres', 'DELETE FROM busy');
$primary->safe_psql('postgres', 'VACUUM busy');
$held_up->('a conflict with replay', $key, $standby);
$query->quit;
$then_revoked->($standby);

# The wire, held up and broken: replay goes on by another way, but who is not
# told how far the primary is knows nothing.
for my $cut (qw(hold_up break_off))
{
	$key = $make->();
	$everywhere->($key);
	$wire->$cut;
	for my $node ($standby, $cascade)
	{
		like($until->($node, $key, 'unavailable'), qr/^unavailable( valid)?$/, "$cut: unavailable on the " . $node->name);
	}
	$wire->mend;
	$everywhere->($key);
}

# One line in the log for each change.
my $log = slurp_file($standby->logfile);
my @lines = $log =~ /LOG:  (the primary of the API keys' fleet .*)/g;
ok(@lines >= 4 && @lines <= 6, 'few lines in the log') or diag(join "\n", @lines);
ok(!(grep { $lines[$_] eq $lines[$_ - 1] } 1 .. $#lines), 'each a change');
unlike($log, qr/user=fleet|port=@{[$wire->port]}/, 'the log has no conninfo');

# Ended, it comes again; after a start nothing is valid before it is shown.
$standby->restart;
$session{standby} = $standby->background_psql('postgres');
unlike($until->($standby, $key, 'valid'), qr/not_found|revoked/, 'after a restart, valid once that is known');

# The primary is fresh at all times: whoever is promoted, at once.
$primary->stop('immediate');
is($until->($standby, $key, 'unavailable'), 'unavailable valid', 'without a primary');
ok($standby->poll_query_until('postgres', q{SELECT string_agg(name || ' ' || severity, ', ' ORDER BY name) FROM apikey_health() WHERE severity <> 'ok'}, 'replay critical, servers warning'), 'health tells');
$standby->promote;
is($until->($standby, $key, 'valid'), 'valid', 'promoted');
# The cascade asks where it was told to, where now nobody is.
is($code->($cascade, $key), 'unavailable', 'another does not know where the primary is');
$wire->lead_to($standby);
like($until->($cascade, $key, 'valid'), qr/valid/, 'until it gets there');

$_->quit for values %session;
$standby->stop;
$cascade->stop;
done_testing();
