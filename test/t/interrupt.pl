# Cancelled or timed out in the middle, no function leaves a lock, another user,
# another search path or a wrong count.  The middle is where it waits: for a
# table, or for a row, that another session holds until it has given up.
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
max_prepared_transactions = 2
apikey.request_project = 'acme'
});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql('CREATE ROLE anna; CREATE ROLE bert; CREATE EXTENSION apikey CASCADE; GRANT EXECUTE ON FUNCTION apikey_organization_create, apikey_import TO anna');
sql(q{SET ROLE anna;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme', 'bert', 'admin')});
my $key = sql(q{SET ROLE anna; SELECT apikey_create('one', 'acme/pay', rate_limit => 2, rate_window => '31 days')});
my $id = sql("SELECT apikey_id('$key')");
my $metered = sql(q{SET ROLE anna; SELECT apikey_id(apikey_create('metered', 'acme/pay', credits => 10))});
my $limit = sql(qq{SET ROLE anna; SELECT apikey_limit_set('calls', 5, NULL, 'balance', key => '$id')});

# Each by its name, functions that wait first.  Flushing, granting, a look at
# the server's health, and a token where there is no pepper, wait for none of
# the locks here; what other servers call, apikey_server_*, nobody else does.
my %calls = (
	apikey_create => q{SELECT apikey_create('two', 'acme/pay')},
	apikey_rename => qq{SELECT apikey_rename('$id', 'new')},
	apikey_disable => qq{SELECT apikey_disable('$id')},
	apikey_enable => qq{SELECT apikey_enable('$id')},
	apikey_revoke => qq{SELECT apikey_revoke('$id')},
	apikey_self_revoke => qq{SELECT apikey_self_revoke('$key')},
	apikey_delete => qq{SELECT apikey_delete('$id', 'one')},
	apikey_transfer => qq{SELECT apikey_transfer('$id', 'bert')},
	apikey_organization_create => q{SELECT apikey_organization_create('other')},
	apikey_organization_drop => q{SELECT apikey_organization_drop('acme', 'acme')},
	apikey_project_create => q{SELECT apikey_project_create('acme/new', default_key => true)},
	apikey_project_drop => q{SELECT apikey_project_drop('acme/pay', 'acme/pay')},
	apikey_project_apply => q{SELECT apikey_project_apply('acme/pay')},
	apikey_member_add => q{SELECT apikey_member_add('acme/pay', 'bert', 'owner')},
	apikey_member_remove => q{SELECT apikey_member_remove('acme', 'bert')},
	apikey_verify => qq{SELECT code FROM apikey_verify('$key', project => 'acme')},
	apikey_verify_digest => qq{SELECT code FROM apikey_verify_digest(left('$key', -39), sha256('$key'), project => 'acme')},
	apikey_check => qq{SELECT apikey_check('$key', project => 'acme')},
	apikey_credits_add => qq{SELECT apikey_credits_add('$metered', 1)},
	apikey_rotate => qq{SELECT apikey_rotate('$id', '1 hour')},
	apikey_reveal => qq{SELECT apikey_reveal('$id')},
	apikey_import => q{SELECT apikey_import('old', 'md5', md5('old'), project => 'acme/pay')},
	apikey_purge => q{SELECT apikey_purge('0')},
	apikey_limit_set => qq{SELECT apikey_limit_set('pages', 5, '1 minute', key => '$id')},
	apikey_limit_add => qq{SELECT apikey_limit_add('$limit', 1)},
	apikey_limit_drop => qq{SELECT apikey_limit_drop('$limit')},
	apikey_charge => qq{SELECT apikey_charge('$id', '{"calls": 1}', project => 'acme')},
	apikey_scan => qq{SELECT code FROM apikey_scan('$key')},
	apikey_authenticate => qq{SELECT apikey_authenticate('$key', project => 'acme')},
	apikey_authenticate_digest => qq{SELECT apikey_authenticate_digest(left('$key', -39), sha256('$key'), project => 'acme')},
	apikey_pre_request => q{SELECT apikey_pre_request()},
	'UPDATE apikeys' => qq{UPDATE apikeys SET description = 'new' WHERE id = '$id'},
	'UPDATE apikey_projects' => q{UPDATE apikey_projects SET max_keys = 2},
	'SELECT apikeys' => q{SELECT name FROM apikeys},
	'SELECT apikey_events' => q{SELECT event FROM apikey_events});
is( sql(q{SELECT string_agg(DISTINCT p.proname, ' ' ORDER BY p.proname) FROM pg_proc p
		JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'apikey'
		WHERE p.provolatile = 'v' AND p.proname !~ '^(_|apikey_server_)'
		AND p.proname NOT IN ('apikey_events_purge', 'apikey_flush', 'apikey_grant', 'apikey_ungrant', 'apikey_health', 'apikey_token_create')}),
	join(' ', sort grep { !/ / } keys %calls), 'every function that is not for superusers alone is here');

my $tables = sql(q{SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c
	WHERE relkind = 'r' AND relname ~ '^apikey_' AND relname <> 'apikey_usage'});
my $dump = sub {
	return sql(join ' UNION ALL ', map { "SELECT '$_' || t::text FROM $_ t" } sort split /, /, $tables);
};
my $before = $dump->();
my $counts = q{SELECT use_count, denied_count FROM apikeys; SELECT verifications, tracked_keys FROM apikey_stats};
my $counts_before = sql($counts);

# The session that waits, as the role that may do it all, in a transaction that
# goes on, as one of an application would.
my $holder = $node->background_psql('postgres');
my $waiter = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $waiter->query_safe('SELECT pg_backend_pid()');
$waiter->query_safe(q{SET ROLE anna; SET search_path = public, pg_temp; SET apikey.cache_entries = 0; \set VERBOSITY sqlstate});
$waiter->query_safe(qq{SET request.headers = '{"x-api-key": "$key"}'});
my $me = q{SELECT current_user, session_user <> current_user, current_setting('search_path')};
my $me_before = $waiter->query_safe($me);

# A lock on the row alone stops only who changes it.
my %held = (
	tables => "LOCK TABLE $tables IN ACCESS EXCLUSIVE MODE",
	rows => 'SELECT count(*) FROM (SELECT FROM apikey_key FOR UPDATE) k, (SELECT FROM apikey_project FOR UPDATE) p,'
	  . ' (SELECT FROM apikey_organization FOR UPDATE) o, (SELECT FROM apikey_digest FOR UPDATE) d');
my %free = (rows => qr/^(apikey_(verify|authenticate)(_digest)?|apikey_check|apikey_(self_)?revoke|apikey_disable|apikey_delete|apikey_pre_request|apikey_reveal|apikey_purge|apikey_charge|apikey_scan|SELECT .*|apikey_organization_create)$/);

# The locks of the transaction that goes on, weak ones on what was looked at
# apart; and what PostgreSQL keeps of a subtransaction that was undone.
my $locks = "SELECT count(*) FROM pg_locks WHERE pid = $pid AND granted AND (mode ~ 'Row|Exclusive') AND locktype IN ('relation', 'tuple', 'object', 'advisory')";

for my $kind (sort keys %held)
{
	$holder->query_safe('BEGIN');
	$holder->query_safe($held{$kind});
	for my $name (grep { !$free{$kind} || $_ !~ $free{$kind} } sort keys %calls)
	{
		$waiter->query_safe('BEGIN; SAVEPOINT s');
		$waiter->query_safe("SET LOCAL statement_timeout = '20ms'");
		$waiter->query($calls{$name});
		like($waiter->{stderr}, qr/ERROR:\s+57014/, "$kind, $name: timed out");
		$waiter->{stderr} = '';
		$waiter->query_safe('ROLLBACK TO s');
		is($waiter->query_safe($me), $me_before, "$kind, $name: who and where she was");
		is($waiter->query_safe($locks), '0', "$kind, $name: no lock is left");
		$waiter->query_safe('COMMIT');
	}
	$holder->query_safe('ROLLBACK');
	is($dump->(), $before, "$kind: nothing has changed");
	is(sql($counts), $counts_before, "$kind: nothing was counted");
}

# Cancelled by somebody else, outside a transaction block.
$holder->query_safe('BEGIN');
$holder->query_safe($held{tables});
my $verifies = qr/^apikey_((verify|authenticate)(_digest)?|check|pre_request)$/;
for my $name (grep { $_ !~ $verifies } sort keys %calls)
{
	$waiter->query_until(qr/started/, "\\echo started\n$calls{$name};\n");
	ok($node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' AND pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $pid"),
		"$name: waits");
	is($waiter->query($me), $me_before, "$name: who and where she was after a cancel");
	like($waiter->{stderr}, qr/ERROR:\s+57014/, "$name: cancelled");
	$waiter->{stderr} = '';
}
$holder->query_safe('ROLLBACK');
is($dump->(), $before, 'nothing has changed');
is(sql($counts), $counts_before, 'nothing was counted');

# A verification waits for a moment only, and then spends nothing.
$holder->query_safe('BEGIN');
$holder->query_safe($held{tables});
for my $name (grep { $_ =~ $verifies } sort keys %calls)
{
	my $answer = $waiter->query($calls{$name}) . $waiter->{stderr};
	like($answer, qr/^(unavailable|f|psql:<stdin>:\d+: ERROR:  (28000|PT503))$/, "$name: unavailable");
	$waiter->{stderr} = '';
}
$holder->query_safe('ROLLBACK');

# And then everything works: what was refused spent nothing of the limit.
is($waiter->query_safe($calls{apikey_verify}), 'valid', 'the first use');
is($waiter->query_safe($calls{apikey_check}), 't', 'the second');
is($waiter->query_safe($calls{apikey_verify}), 'rate_limited', 'and no more');

# A prepared transaction holds for nobody before it is committed, and for
# everybody after, the session that prepared it among them.
my $plain = sql(q{SET ROLE anna; SELECT apikey_create('plain')});
my $verify = "SELECT code FROM apikey_verify('$plain', owner => 'anna')";
my $warm = $node->background_psql('postgres');
$_->query_safe('SET apikey.cache_entries = 100') for $waiter;
is($_->query_safe($verify), 'valid', 'warm') for $warm, $waiter;
$waiter->query_safe(qq{BEGIN; SELECT apikey_revoke(apikey_id('$plain')); });
is($waiter->query_safe($verify), 'revoked', 'in the transaction that revokes');
$waiter->query_safe(q{PREPARE TRANSACTION 'revoke'});
is($_->query_safe($verify), 'valid', 'prepared') for $warm, $waiter;
$node->restart;
$_->quit for $holder;
$warm = $node->background_psql('postgres');
$waiter = $node->background_psql('postgres');
is($_->query_safe($verify), 'valid', 'after a restart') for $warm, $waiter;
$waiter->query_safe(q{COMMIT PREPARED 'revoke'});
is($_->query_safe($verify), 'revoked', 'committed') for $waiter, $warm;
my $made = $waiter->query_safe(q{BEGIN; SELECT apikey_create('prepared')});
$waiter->query_safe(q{PREPARE TRANSACTION 'create'});
is($_->query_safe("SELECT code FROM apikey_verify('$made')"), 'not_found', 'a prepared key') for $waiter, $warm;
$warm->query_safe(q{COMMIT PREPARED 'create'});
is($_->query_safe("SELECT code FROM apikey_verify('$made')"), 'valid', 'committed') for $waiter, $warm;
$_->quit for $warm, $waiter;

$node->stop;
done_testing();
