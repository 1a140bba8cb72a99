# A member with several databases: it is known in each, and joins as somebody new
# where one forgets it, which is nothing to the others; there may be more than it
# is connected to all the time, and some that nobody can get into; those of a
# subscriber may all come from the same database of the publisher.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my @databases = qw(postgres shop app);
my $common = q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '300ms'
apikey.fleet_interval = '200ms'
apikey.fleet_timeout = '2s'
max_worker_processes = 20
max_connections = 30
};
my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 'logical');
$primary->append_conf('postgresql.conf', $common . "cluster_name = 'primary'");
$primary->start;
$primary->safe_psql('postgres', 'CREATE ROLE fleet LOGIN');
my @shut = qw(shut1 shut2);
$primary->safe_psql('postgres', "CREATE DATABASE $_") for @shut, grep { $_ ne 'postgres' } @databases;
$primary->safe_psql('postgres', 'CREATE ROLE keeper');
my %keys;
for my $database (@databases)
{
	$primary->safe_psql($database, q{SET client_min_messages = warning; CREATE EXTENSION apikey CASCADE});
	$primary->safe_psql($database, q{SELECT apikey_grant('servers', 'fleet')});
	$keys{$database} = $primary->safe_psql($database, q{SELECT apikey_create('used')});
}
my $to = "host=@{[$primary->host]} port=@{[$primary->port]} user=fleet";

# Uses on a member are counted in each database.
my $uses = 0;
my $used = sub {
	my ($database, $what) = @_;
	ok($primary->poll_query_until($database, qq{SELECT use_count = $uses FROM apikeys WHERE name = 'used'}), $what);
};
my $standby;
my $use_once = sub {
	my ($what) = @_;
	$uses++;
	$standby->safe_psql('shop', "SELECT count(*) FROM apikey_verify('$keys{shop}')");
	$used->('shop', $what);
};
my $use_everywhere = sub {
	my ($node, $what) = @_;
	$uses += 3;
	$node->safe_psql($_, qq{SELECT count(*) FROM generate_series(1, 3) i, apikey_verify('$keys{$_}' || repeat('', i)) WHERE valid}) for @databases;
	$used->($_, "$what: $_") for @databases;
};

$primary->backup('backup');
$standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', qq{
apikey.fleet = on
apikey.primary_conninfo = '$to'
cluster_name = 'standby'
});
$standby->start;
$use_everywhere->($standby, 'a standby of three databases');
my $session = $standby->background_psql('shop');
is($session->query_safe('SELECT 1'), '1', 'a session there');
# What is used while it is nobody there is not attributed, so that is waited for.
my $forget = sub {
	my ($database) = @_;
	my $since = q{SELECT string_agg(first_seen_at::text, ',') FROM apikey_servers WHERE role = 'standby'};
	my %before = map { $_ => $primary->safe_psql($_, $since) } @databases;
	is($primary->safe_psql($database, q{SELECT count(apikey_server_forget(name)) FROM apikey_servers WHERE role = 'standby'}), '1', "forgotten in $database");
	ok($primary->poll_query_until($database, qq{SELECT count(*) = 1 FROM apikey_servers WHERE role = 'standby' AND first_seen_at::text <> '$before{$database}'}), 'it has joined there again');
	is($primary->safe_psql($_, $since), $before{$_}, "and is who it was in $_") for grep { $_ ne $database } @databases;
};
for my $times ('once', 'again')
{
	$forget->('shop');
	$use_everywhere->($standby, "forgotten $times");
}
is($session->query_safe('SELECT 1'), '1', 'the session has gone on');
$session->quit;

# More databases than connections are kept of.  Nothing is due for an hour, so
# what is leased is what a session has asked for.
my @more = map { "more$_" } 1 .. 9;
my $spend = sub {
	my ($what, @in) = @_;
	my %made;
	for my $database (@in)
	{
		for my $kind (qw(credits quota rate))
		{
			my $key = $made{$database}{$kind} = $primary->safe_psql($database, "SELECT apikey_create('$what-$kind'" . ($kind eq 'credits' ? ', credits => 1000)' : ')'));
			my $shared = $kind eq 'rate' ? 'true' : 'false';
			$primary->safe_psql($database, "SELECT apikey_limit_set('calls', 1000, '1 day', '$kind', key => apikey_id('$key'), shared => $shared)") if $kind ne 'credits';
		}
	}
	$primary->wait_for_catchup('standby');
	for my $kind (qw(credits quota rate))
	{
		my $costs = $kind eq 'credits' ? '' : q{, costs => '{"calls": 1}'};
		for my $database (@in)
		{
			# A session waits for a moment only: who asks next finds it.
			my @codes;
			while (@codes < 4 && !grep { $_ eq 'valid' } @codes)
			{
				sleep 1 if @codes;
				push @codes, $standby->safe_psql($database, "SELECT code FROM apikey_verify('$made{$database}{$kind}'$costs)");
			}
			is($codes[-1], 'valid', "$what, $database: $kind") or diag("tried: @codes");
		}
	}
	cmp_ok($primary->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'fleet'}), '<=', 10, "$what: connections are few");
};
$primary->safe_psql('postgres', "CREATE DATABASE $_") for @more;
$primary->wait_for_catchup('standby');
$standby->append_conf('postgresql.conf', "apikey.flush_interval = '1h'\napikey.fleet_interval = '1h'\n");
$standby->restart;
$spend->('three-of-twelve', @databases);
for my $database (@more)
{
	$primary->safe_psql($database, q{SET client_min_messages = warning; CREATE EXTENSION apikey CASCADE; SELECT apikey_grant('servers', 'fleet')});
}
$spend->('all-twelve', @databases, @more);
$spend->('again', @databases, @more);

# Whoever has a table locked in one database on the primary keeps the worker from
# no other for longer than a moment.
$standby->append_conf('postgresql.conf', "apikey.flush_interval = '300ms'\napikey.fleet_interval = '200ms'\n");
$standby->reload;
$uses = $primary->safe_psql('shop', q{SELECT use_count FROM apikeys WHERE name = 'used'});
$use_once->('before anything is locked');
my @beside = split /\n/, $primary->safe_psql('app', q{SELECT apikey_create('beside-' || i, credits => 1000) FROM generate_series(1, 40) i});
$primary->wait_for_catchup('standby');
my $locks = $primary->background_psql('shop');
$locks->query_safe('BEGIN; LOCK TABLE apikey_usage');
my ($valid, $last) = (0, '');
for my $key (@beside)
{
	$standby->safe_psql('shop', "SELECT count(*) FROM apikey_verify('$keys{shop}')");
	$last = $standby->safe_psql('app', "SELECT code FROM apikey_verify('$key')");
	$valid++ if $last eq 'valid';
	usleep(100_000);
}
cmp_ok($valid, '>=', 30, 'beside a database where a table is locked others are served') or diag("the last is $last");
$locks->query_safe('ROLLBACK');
$locks->quit;
$uses += @beside;

# Nor does who keeps everybody out of databases: by what any role may do.
my @keepers;
for my $database (@shut)
{
	push @keepers, map { $primary->background_psql('app') } 1 .. 2;
	$keepers[-2]->query_safe("SET ROLE keeper; BEGIN; ALTER ROLE keeper IN DATABASE $database SET work_mem = '4MB'");
	$keepers[-1]->query_until(qr/begun/, "SET ROLE keeper;\n\\echo begun\nDROP DATABASE $database;\n");
	ok($primary->poll_query_until('app', "SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'DROP DATABASE $database;' AND wait_event_type = 'Lock'"), "$database is waited for");
}
my $log = -s $standby->logfile;
$standby->reload;
($valid, $last) = (0, '');
for my $key (@beside)
{
	$last = $standby->safe_psql('app', "SELECT code FROM apikey_verify('$key', cost => 30)");
	$valid++ if $last eq 'valid';
	usleep(200_000);
}
cmp_ok($valid, '>=', 30, 'beside databases that nobody can get into others are served') or diag("the last is $last");
$standby->wait_for_log(qr/"$_" cannot be reported to the primary\n.*The primary does not answer/, $log) for @shut;
my $ends = $primary->safe_psql('app', q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND mode = 'RowExclusiveLock' AND NOT granted});
cmp_ok($ends, '>', 0, 'the primary keeps its end of an attempt');
cmp_ok($ends, '<=', 6 * @shut, 'and of few');
for my $keeper (@keepers[ grep { $_ % 2 == 0 } 0 .. $#keepers ]) { $keeper->query_safe('ROLLBACK') }
for my $keeper (@keepers) { eval { $keeper->quit } }
$used->('shop', 'and what was used there is counted once the table is free');

cmp_ok($primary->safe_psql($_, 'SELECT count(*) FROM apikey_server_lease'), '>', 0, "leased: $_") for @databases, @more;

# Databases whose reports the primary does not take keep no other from reporting, and
# are leased what they spend; what they have to tell waits.
my @refused = @more[ 0 .. 7 ];
my %told;
for my $database (@refused)
{
	$told{$database} = $primary->safe_psql($database, q{SELECT apikey_create('told')});
	$primary->safe_psql($database, 'REVOKE EXECUTE ON FUNCTION apikey_server_report FROM fleet');
	is($primary->safe_psql($database, q{SELECT has_function_privilege('fleet', oid, 'EXECUTE') FROM pg_proc WHERE proname = 'apikey_server_report'}), 'f', "no reports are taken in $database");
}
my $spends = $primary->safe_psql($refused[0], q{SELECT apikey_create('spends', credits => 1000000)});
$primary->wait_for_catchup('standby');
$standby->safe_psql($_, "SELECT count(*) FROM apikey_verify('$told{$_}')") for @refused;
usleep(2_000_000);
my $leased = 0;
for (1 .. 20)
{
	$leased += $standby->safe_psql($refused[0], "SELECT code = 'valid' FROM apikey_verify('$spends', cost => 5000)") eq 't';
	usleep(100_000);
}
cmp_ok($leased, '>=', 12, "beside what is refused, credits are leased in $refused[0]");
$use_once->('beside eight databases whose reports are refused another one reports');
$primary->safe_psql($_, 'GRANT EXECUTE ON FUNCTION apikey_server_report TO fleet') for @refused;
ok($primary->poll_query_until($_, q{SELECT use_count = 1 FROM apikeys WHERE name = 'told'}), "and $_ once its reports are taken") for @refused;

$standby->stop;
is($primary->safe_psql($_, 'SELECT count(*) FROM apikey_server_lease'), '0', "returned: $_") for @databases, @more;
unlike(slurp_file($standby->logfile), qr/terminated by signal|terminating connection because/, 'no process has crashed');

# All its databases come from one.
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
$subscriber->append_conf('postgresql.conf', $common . qq{
apikey.fleet = on
apikey.primary_conninfo = '$to dbname=shop'
cluster_name = 'subscriber'
});
$subscriber->start;
$subscriber->safe_psql('postgres', 'CREATE ROLE fleet LOGIN');
$primary->safe_psql('shop', 'CREATE PUBLICATION keys FOR TABLE apikey_key, apikey_digest, apikey_revocation, apikey_beat');
for my $database ('one', 'two')
{
	$subscriber->safe_psql('postgres', "CREATE DATABASE $database");
	$subscriber->safe_psql($database, 'SET client_min_messages = warning; CREATE EXTENSION apikey CASCADE');
	$subscriber->safe_psql($database, "CREATE SUBSCRIPTION keys_$database CONNECTION '@{[$primary->connstr]} dbname=shop' PUBLICATION keys");
	$subscriber->wait_for_subscription_sync($primary, "keys_$database", $database);
}
my $verify = sub {
	my ($database) = @_;
	return $subscriber->safe_psql($database, qq{SELECT count(*) FROM generate_series(1, 5) i, apikey_verify('$keys{shop}' || repeat('', i)) WHERE valid});
};
for my $round (1, 2)
{
	is($verify->($_), '5', "$_ verifies, $round") for 'one', 'two';
	$uses += 10;
	$used->('shop', "the uses of both are counted, $round");
}
is($primary->safe_psql('shop', q{SELECT count(*) FROM apikey_servers WHERE role = 'subscriber'}), '2', 'each is a server of its own, for good');
$subscriber->stop;
unlike(slurp_file($subscriber->logfile), qr/terminated by signal/, 'no process has crashed there');
$primary->stop;
done_testing();
