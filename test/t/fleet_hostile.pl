# A member speaks to a primary whose functions somebody has replaced: whatever it
# is answered, it goes on, and works again when they are right.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Fleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '200ms'
apikey.fleet_timeout = '1s'
cluster_name = 'primary'
});
$primary->start;
sub sql { return $primary->safe_psql('postgres', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant('servers', 'fleet')});
my %keys = (plain => sql(q{SELECT apikey_create('plain')}), credits => sql(q{SELECT apikey_create('credits', credits => 1000000000000)}),
	shared => sql(q{SELECT apikey_create('shared')}));
sql("SELECT apikey_limit_set('requests', 100000, '1 second', key => apikey_id('$keys{shared}'), shared => true)");
$primary->backup('backup');
my $standby = Fleet::member('standby', $primary, $primary);

sub verifies
{
	my ($key, $what) = @_;
	ok($standby->poll_query_until('postgres', "SELECT code = 'valid' FROM apikey_verify('$keys{$key}')"), "$key $what");
}
verifies($_, 'at first') for sort keys %keys;

# Each function as it is, and what stands in its place: nulls, too much, nonsense.
my %garbage = (
	join => [ 'SELECT NULL::boolean, NULL::bigint, NULL::bigint, NULL::bigint, NULL::integer, NULL::text',
		"SELECT true, NULL::bigint, NULL::bigint, NULL::bigint, NULL::integer, NULL::text" ],
	lease => [ 'SELECT NULL::uuid, NULL::text, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint',
		"SELECT gen_random_uuid(), 'no such state', -1::bigint, -1::bigint, -1::bigint, -1::bigint, -1::bigint FROM generate_series(1, 1000)",
		"SELECT a, 'granted', NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint FROM unnest(accounts) a",
		'SELECT NULL::uuid, NULL::text, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint WHERE false' ],
	take => [ 'SELECT NULL::uuid, NULL::bigint, NULL::bigint', 'SELECT gen_random_uuid(), 1::bigint, NULL::bigint FROM generate_series(1, 1000)',
		'SELECT NULL::uuid, NULL::bigint, NULL::bigint WHERE false' ],
	report => [ 'SELECT NULL::boolean', "SELECT (1 / (random() * 0)::int)::boolean" ],
	return => [ 'SELECT NULL::bigint' ],
	rehash => [ 'SELECT NULL::bigint' ]);
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey fleet'};
my $pid = $standby->safe_psql('postgres', $worker);
for my $name (sort keys %garbage)
{
	my $right = sql("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'apikey_server_$name'");
	for my $body (@{ $garbage{$name} })
	{
		my $wrong = $right =~ s/ROWS 10//r =~ s/^\s*LANGUAGE c.*//msr;
		$primary->safe_psql('postgres', "$wrong LANGUAGE sql AS \$garbage\$ $body \$garbage\$");
		my $before = -s $primary->logfile;
		# A session of the member's that joins anew, asks and reports.
		sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'apikey_fleet'}) if $name eq 'join';
		my $called = $name =~ /^(join|report)$/ ? 'plain' : $name eq 'take' ? 'shared' : 'credits';
		my ($asked, $end) = ($name =~ /^(return|rehash)$/, time() + 60);
		# Until it does, as its link waits after each that has failed.
		do
		{
			$standby->safe_psql('postgres', "SELECT code FROM apikey_verify('$keys{$called}', cost => @{[$called eq 'credits' ? 1000000000 : 90000]})") if $called ne 'plain';
			$standby->safe_psql('postgres', "SELECT code FROM apikey_verify('$keys{plain}')");
			$asked ||= slurp_file($primary->logfile, $before) =~ /apikey_server_$name\(/;
			sleep 0.1;
		} until $asked || time() > $end;
		ok($asked, "$name is asked");
	}
	sql($right);
}
verifies($_, 'in the end') for sort keys %keys;

# A database that knows nobody takes no server from the others, but once: it may
# have been copied, and so it is another one then.
my $servers = q{SELECT string_agg(id || ' ' || epoch, ',' ORDER BY id) FROM apikey_server WHERE kind = 'standby'};
my $join = sql("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'apikey_server_join'");
my $knows_nobody = $join =~ s/ROWS 10//r =~ s/^\s*LANGUAGE c.*//msr;
$primary->safe_psql('postgres', 'CREATE DATABASE beside');
$primary->safe_psql('beside', q{SET client_min_messages = warning; CREATE EXTENSION apikey CASCADE; SELECT apikey_grant('servers', 'fleet')});
my $beside = $primary->safe_psql('beside', q{SELECT apikey_create('beside', credits => 1000000)});
$primary->wait_for_catchup('standby');
my $spends = sub { return $standby->poll_query_until('beside', "SELECT code = 'valid' FROM apikey_verify('$beside')") };
ok($spends->(), 'another database');
sql("$knows_nobody LANGUAGE sql AS \$\$ SELECT false, NULL::bigint, NULL::bigint, NULL::bigint, NULL::integer, NULL::text \$\$");
my $joins = sub { my ($from) = @_; $primary->wait_for_log(qr/(?:apikey_server_join\([\s\S]*){4}/, $from) };
my $from = -s $primary->logfile;
sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'apikey_fleet' AND datname = 'postgres'});
$joins->($from);
ok($spends->(), 'the other one goes on');
my $who = $primary->safe_psql('beside', $servers);
$joins->(-s $primary->logfile);
is($primary->safe_psql('beside', $servers), $who, 'and knows who it is, from then on');
ok($spends->(), 'as it did');
sql($join);
$from = -s $standby->logfile;
$standby->wait_for_log(qr/"postgres" is reported to the primary/, $from);
pass('where nobody was known it is known again');

# What the role has set for itself, or was made to, keeps it from nothing.
sql(q{ALTER ROLE fleet SET datestyle = 'SQL, DMY'; ALTER ROLE fleet SET default_transaction_isolation = 'serializable';
	CREATE ROLE nobody; GRANT nobody TO fleet; ALTER ROLE fleet SET role = 'nobody'; ALTER ROLE fleet SET local_preload_libraries = 'there_is_none'});
sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'apikey_fleet'});
ok($standby->poll_query_until('postgres', "SELECT code = 'valid' FROM apikey_verify('$keys{$_}', cost => 7)"), "$_, whatever the role has set") for 'credits', 'shared';
sql(q{ALTER ROLE fleet RESET ALL});

# Who owns the schema may have a function called with all that the connection's
# role may do: so as a superuser none is called.
sql(q{CREATE ROLE boss LOGIN SUPERUSER});
my ($before, $asked) = (-s $primary->logfile, -s $standby->logfile);
my $connects_as = sub {
	my ($role) = @_;
	$standby->append_conf('postgresql.conf', "apikey.primary_conninfo = '@{[$primary->connstr]} user=$role application_name=as_$role'");
	$standby->reload;
};
$connects_as->('boss');
$standby->wait_for_log(qr/cannot be reported to the primary\n.*The role of the connection is a superuser there/, $asked);
pass('a superuser\'s connection is given up');
sql(q{SELECT pg_sleep(1)});
unlike(slurp_file($primary->logfile, $before), qr/as_boss .*apikey_server_/, 'and calls nothing');
$connects_as->('fleet');
verifies($_, 'as it was') for sort keys %keys;
is($standby->safe_psql('postgres', $worker), $pid, 'the worker is the same');
unlike(slurp_file($standby->logfile), qr/terminated by signal|terminating any other active server processes|exited with exit code/, 'and nothing has ended');
$_->stop for $standby, $primary;
done_testing();
