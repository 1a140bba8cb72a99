# A standby verifies, and refuses from the moment a revocation is replayed.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
});
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$standby->backup('backup');
my $cascade = PostgreSQL::Test::Cluster->new('cascade');
$cascade->init_from_backup($standby, 'backup', has_streaming => 1);
$cascade->start;

$primary->safe_psql('postgres', q{
	CREATE ROLE leaver LOGIN;
	CREATE ROLE stays;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme/pay', 'stays', 'admin')});
my $pay = $primary->safe_psql('postgres', q{SET ROLE stays; SELECT apikey_create('pay', 'acme/pay')});
my $kept = $primary->safe_psql('postgres', q{SELECT apikey_create('kept')});
my $limited = $primary->safe_psql('postgres', q{SELECT apikey_create('limited', rate_limit => 3, rate_window => '31 days')});
my $key = $primary->safe_psql('postgres', q{SELECT apikey_create('one')});
my $hers = $primary->safe_psql('postgres',
	q{SET ROLE leaver; SELECT apikey_create('hers')});
$primary->wait_for_catchup($standby);

# One session for all that follows, in one transaction that never ends.
my $session = $standby->background_psql('postgres');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $ask = sub {
	my ($text, $whose) = (@_, '');
	return $session->query_safe("SELECT code FROM apikey_verify('$text'$whose)");
};
is($ask->($key), 'valid', 'a standby verifies');
is($ask->($hers, ", owner => 'leaver'"), 'valid', 'the key of a role too');
is( $standby->safe_psql('postgres', qq{BEGIN; SELECT apikey_authenticate('$key') \\g /dev/null
		SELECT apikey_current_key() = apikey_id('$key')}), 't', 'and authenticates');

$primary->safe_psql('postgres', qq{SELECT apikey_disable(apikey_id('$key'))});
$primary->wait_for_catchup($standby);
is($ask->($key), 'disabled', 'a disabled key once it is replayed');
$primary->safe_psql('postgres', qq{SELECT apikey_revoke(apikey_id('$key'))});
$primary->safe_psql('postgres', 'DROP ROLE leaver');
$primary->wait_for_catchup($standby);
is($ask->($key), 'revoked', 'a revoked key once it is replayed');
is($ask->($hers), 'revoked', 'the key of a dropped role');
$session->query_safe('COMMIT');

# With remote_apply none is accepted there once it is acknowledged, by a session
# that remembers the key either.
$primary->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'standby'});
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = 'standby'}) or die;
my $revokes = $primary->background_psql('postgres');
$revokes->query_safe('SET synchronous_commit = remote_apply');
my @keys = split /\n/, $revokes->query_safe(q{SELECT apikey_create('acknowledged-' || i) FROM generate_series(1, 50) i});
is(join(' ', map { $ask->($_) } @keys), join(' ', ('valid') x 50), 'keys are there when they are acknowledged');
is(join(' ', map { $revokes->query_safe("SELECT apikey_revoke(apikey_id('$_')) \\g /dev/null"); $ask->($_) } @keys), join(' ', ('revoked') x 50), 'and revocations');
$revokes->quit;
$session->quit;
$primary->safe_psql('postgres', 'ALTER SYSTEM RESET synchronous_standby_names');
$primary->reload;

# Each function that changes something says so, to a role that may do it.
my %refused;
for my $call (
	"apikey_create('two')", "apikey_rename(apikey_id('$key'), 'new')",
	"apikey_disable(apikey_id('$key'))", "apikey_enable(apikey_id('$key'))",
	"apikey_revoke(apikey_id('$key'))", "apikey_self_revoke('$key')",
	"apikey_delete(apikey_id('$key'), 'one')", "apikey_credits_add(apikey_id('$key'), 1)",
	"apikey_transfer(apikey_id('$key'), current_user::regrole)", "apikey_rotate(apikey_id('$key'))",
	"apikey_reveal(apikey_id('$key'))", "apikey_purge('1 day')", "apikey_events_purge('1 day')",
	"apikey_import('three', 'md5', md5('three'))",
	"apikey_organization_create('new')", "apikey_project_create('acme/new')",
	"apikey_member_add('acme', 'stays', 'owner')", "apikey_member_remove('acme', 'stays')",
	"apikey_limit_set('requests', 1, '1 minute', key => apikey_id('$key'))", "apikey_limit_add(apikey_id('$key'), 1)",
	"apikey_limit_drop(apikey_id('$key'))",
	"apikey_project_apply('acme/pay')", "apikey_grant('stats', 'stays')", "apikey_ungrant('stats', 'stays')",
	"apikey_project_drop('acme/pay', 'acme/pay')", "apikey_organization_drop('acme', 'acme')")
{
	my ($result, $stdout, $stderr) = $standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT $call", on_error_stop => 0);
	my ($name) = $call =~ /^(\w+)/;
	$refused{$name} = 1;
	like($stderr, qr/25006: cannot execute $name\(\) in a read-only transaction/, "$name on a standby");
}
for my $update (q{apikeys SET description = 'new'}, q{apikey_projects SET max_keys = 2})
{
	my ($result, $stdout, $stderr) = $standby->psql('postgres', "\\set VERBOSITY verbose\nUPDATE $update", on_error_stop => 0);
	like($stderr, qr/ERROR:  25006: /, "UPDATE $update on a standby");
}
{
	my ($result, $stdout, $stderr) = $standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT apikey_flush()", on_error_stop => 0);
	like($stderr, qr/ERROR:  55000: /, 'apikey_flush on a standby');
}
# None is forgotten here.
is( $standby->safe_psql('postgres', q{SELECT p.proname FROM pg_proc p
		JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'apikey'
		WHERE p.provolatile = 'v' AND p.proname !~ '^_'
		  AND p.proname !~ '^apikey_(verify|verify_digest|check|authenticate|authenticate_digest|pre_request|flush|health|scan|token_create|charge|server_.*)$' ORDER BY 1}),
	join("\n", sort keys %refused), 'all of them');

# A standby of the standby: the same, from a warm session of its own.
my $next = $cascade->background_psql('postgres');
my $ask_next = sub {
	$primary->wait_for_catchup($standby);
	$standby->wait_for_catchup($cascade, 'replay', $primary->lsn('flush'));
	return $next->query_safe("SELECT concat_ws(' ', code, role) FROM apikey_verify('$_[0]', project => 'acme')");
};
is($ask_next->($pay), 'valid admin', 'a cascaded standby verifies');
$primary->safe_psql('postgres', q{SELECT apikey_member_add('acme/pay', 'stays', 'developer')});
is($ask_next->($pay), 'valid developer', 'a demotion holds there');
$primary->safe_psql('postgres', qq{SELECT apikey_revoke(apikey_id('$pay'))});
is($ask_next->($pay), 'revoked developer', 'and a revocation');

# A limit holds here, for this server alone; uses are counted and shown here,
# and kept over a clean restart.
$session = $standby->background_psql('postgres');
my $spend = "SELECT string_agg(v.code, ' ') FROM generate_series(1, 4) i, apikey_verify('$limited' || repeat('', i)) v";
is($session->query_safe($spend), 'valid valid valid rate_limited', 'a rate limit on a standby');
is($primary->safe_psql('postgres', $spend), 'valid valid valid rate_limited', 'the primary has one of its own');
my $uses = q{SELECT use_count, denied_count FROM apikeys WHERE name = 'limited'};
is($session->query_safe($uses), '3|1', 'uses are shown there');
is($primary->safe_psql('postgres', $uses), '3|1', "and the primary's at home");
$session->quit;
$next->quit;
$standby->restart;
is($standby->safe_psql('postgres', q{SELECT count(*) FROM apikey_usage}), '0', 'nothing was flushed on the standby');
is($standby->safe_psql('postgres', $uses), '3|1', 'after a clean restart of the standby');
is($standby->safe_psql('postgres', "SELECT code FROM apikey_verify('$limited')"), 'rate_limited', 'the limit too');

# Once promoted, it makes keys, and its counts reach the table.
$primary->stop;
$session = $standby->background_psql('postgres');
is($session->query_safe("SELECT code FROM apikey_verify('$kept')"), 'valid', 'a warm session before the promotion');
$standby->promote;
is( $standby->safe_psql('postgres',
		q{SELECT code FROM apikey_verify(apikey_create('two'))}),
	'valid', 'a promoted standby makes keys');
$standby->safe_psql('postgres', q{ALTER SYSTEM SET apikey.flush_interval = '100ms'});
$standby->reload;
ok($standby->poll_query_until('postgres', q{SELECT u.use_count = 3 AND u.denied_count = 2
	FROM apikey_usage u JOIN apikey_key k USING (id) WHERE k.name = 'limited'}), "its counts reach the table");
$standby->safe_psql('postgres', qq{SELECT apikey_revoke(apikey_id('$kept'))});
is($session->query_safe("SELECT code FROM apikey_verify('$kept')"), 'revoked', 'a session that was warm before sees a revocation after');
$standby->wait_for_catchup($cascade);
is($cascade->safe_psql('postgres', "SELECT code FROM apikey_verify('$kept')"), 'revoked', 'and the cascaded standby follows');
$session->quit;
$cascade->stop;
$standby->stop;
done_testing();
