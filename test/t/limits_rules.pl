# Limits of keys, subjects, projects and organizations: what they may be, who
# sets them, what they refuse, and what charges do.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
max_prepared_transactions = 5
timezone = 'Asia/Tokyo'
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE ROLE anna; CREATE ROLE bert; CREATE ROLE cleo; CREATE ROLE devi;
	CREATE ROLE web;
	GRANT EXECUTE ON FUNCTION apikey_organization_create TO anna;
	SET ROLE anna;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay'), apikey_project_create('acme/other');
	SELECT apikey_member_add('acme/pay', 'bert', 'admin');
	SELECT apikey_member_add('acme/pay', 'devi', 'developer')});

sub sql { my ($role, @sql) = @_; return $node->safe_psql('postgres', "SET ROLE $role; " . join '; ', @sql) }
# The SQLSTATE of a statement, or what it returns.
sub state_of
{
	my ($role, $sql) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSET ROLE $role;\n$sql");
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : $stdout;
}
sub limit { my ($role, $arguments) = @_; return sql($role, "SELECT apikey_limit_set($arguments)") }
sub left_of { return sql('postgres', "SELECT remaining FROM apikey_limits WHERE id = '$_[0]'") }
# Who waits for the worker may be too late once.
sub again
{
	my ($sql) = @_;
	my $result;
	for (1 .. 50) { $result = sql('anna', $sql); last if $result !~ /^unavailable/ }
	return $result;
}

my $key = sql('anna', "SELECT apikey_create('one', 'acme/pay', subject => 'carl')");
my $mine = sql('anna', "SELECT apikey_create('mine', subject => 'carl')");
my $id = "apikey_id('$key')";

# Bad values, each by its SQLSTATE.
for (["'tokens', 0, '1 day', key => $id", '22023'], ["'tokens', -1, '1 day', key => $id", '22023'],
	["'tokens', 9007199254740993, '1 day', key => $id", '22023'], ["'', 1, '1 day', key => $id", '22023'],
	["'Tokens', 1, '1 day', key => $id", '22023'], ["repeat('a', 41), 1, '1 day', key => $id", '22023'],
	["'to-kens', 1, '1 day', key => $id", '22023'], ["'t', 1, '1 day', 'gauge', key => $id", '22023'],
	["'t', 1, '0', key => $id", '22023'], ["'t', 1, '-1 day', key => $id", '22023'],
	["'t', 1, '0.9 s', key => $id", '22023'], ["'t', 1, '1 month', key => $id", '22023'],
	["'t', 1, '32 days', key => $id", '22023'], ["'t', 1, '1 day 1 hour', key => $id", '22023'],
	["'t', 1, '1 day 1 hour', 'quota', key => $id", '22023'], ["'t', 1, '1 month 1 day', 'quota', key => $id", '22023'],
	["'t', 1, '121 months', 'quota', key => $id", '22023'], ["'t', 1, '1 day -1 hour', 'quota', key => $id", '22023'],
	["'t', 1, '1 day', 'balance', key => $id", '22023'], ["'t', 1, NULL, 'quota', key => $id", '22004'],
	["'t', 1, NULL, key => $id", '22004'], ["NULL, 1, '1 day', key => $id", '22004'],
	["'t', NULL, '1 day', key => $id", '22004'], ["'t', 1, '1 day', NULL, key => $id", '22004'],
	["'t', 1, '1 day', shared => NULL, key => $id", '22004'], ["'t', 1, '1 day', overdraft => NULL, key => $id", '22004'],
	["'t', 1, '1 day', overdraft => 1, key => $id", '22023'], ["'t', 1, '1 day', 'quota', overdraft => -1, key => $id", '22023'],
	["'t', 1, '1 day', 'quota', overdraft => 9007199254740993, key => $id", '22023'],
	["'t', 1, '1 day'", '22023'], ["'t', 1, '1 day', key => $id, path => 'acme'", '22023'],
	["'t', 1, '1 day', key => $id, subject => 'carl'", '22023'], ["'t', 1, '1 day', subject => ''", '22023'],
	["'t', 1, '1 day', path => 'nowhere'", '42704'], ["'t', 1, '1 day', path => 'acme/nowhere'", '42704'],
	["'t', 1, '1 day', key => gen_random_uuid()", '42704'])
{
	is(state_of('anna', "SELECT apikey_limit_set($_->[0])"), $_->[1], $_->[0]);
}
is(sql('anna', 'SELECT count(*) FROM apikey_limits'), '0', 'and nothing was made');
# The bounds themselves.
for ("'t', 9007199254740992, '1 second'", "'a_0', 1, '31 days'", "repeat('a', 40), 1, '744 hours'",
	"'t', 1, '10 years', 'quota', overdraft => 9007199254740992", "'t', 1, '1 second', 'quota'", "'t', 1, NULL, 'balance'")
{
	like(state_of('anna', "SELECT apikey_limit_set($_, key => $id)"), qr/^[0-9a-f-]{36}$/, $_);
}
like(state_of('anna', "SELECT apikey_limit_set('t', 1, '7 days', 'quota', key => $id)"), qr/-/, 'a seventh');
like(state_of('anna', "SELECT apikey_limit_set('t', 1, '30 days', 'quota', key => $id)"), qr/-/, 'an eighth');
is(state_of('anna', "SELECT apikey_limit_set('t', 1, '1 month', 'quota', key => $id)"), '22023', 'and no ninth');
like(state_of('anna', "SELECT apikey_limit_set('t', 2, '30 days', 'quota', key => $id)"), qr/-/, 'one may be replaced');
is(sql('anna', 'SELECT count(*), count(DISTINCT id) FROM apikey_limits'), '8|8', 'eight it is');
sql('anna', 'SELECT apikey_limit_drop(id) FROM apikey_limits');

# Who may: for a key who may change it, for a place its owners, for a subject
# the role; others are told as little as of the holder.
my $of_key = limit('anna', "'t', 10, '1 hour', key => $id");
my $of_project = limit('anna', "'t', 10, '1 hour', path => 'acme/pay'");
my $of_organization = limit('anna', "'t', 10, '1 hour', path => 'acme'");
my $of_subject = limit('anna', "'t', 10, '1 hour', subject => 'carl'");
my $in_project = limit('anna', "'t', 10, '1 hour', path => 'acme/pay', subject => 'carl'");
my %may = (
	# role => [set key, set project, set organization], then [drop key's, project's, organization's, subject's]
	bert => ['42501', '42501', '42704', '42501', '42501', '42704', '42704'],
	devi => ['42704', '42501', '42704', '42704', '42501', '42704', '42704'],
	cleo => ['42704', '42704', '42704', '42704', '42704', '42704', '42704']);
for my $role (sort keys %may)
{
	my @got = map { state_of($role, "SELECT apikey_limit_set('t', 1, '1 day', $_)") } "key => $id", "path => 'acme/pay'", "path => 'acme'";
	push @got, map { state_of($role, "SELECT apikey_limit_drop('$_')") } $of_key, $of_project, $of_organization, $of_subject;
	is_deeply(\@got, $may{$role}, "what $role may");
}
is(state_of('cleo', "SELECT apikey_limit_add(gen_random_uuid(), 1)"), '42704', 'no such limit');
is(state_of('cleo', "SELECT apikey_limit_drop(NULL)"), '22004', 'null');
is(sql('cleo', 'SELECT count(*) FROM apikey_limits'), '0', 'a stranger sees none');
is(sql('bert', 'SELECT string_agg(coalesce(path, key_id::text), \' \' ORDER BY path) FROM apikey_limits WHERE subject IS NULL'),
	'acme/pay ' . sql('anna', "SELECT $id"), 'an admin those of its project and its keys');
is(sql('devi', 'SELECT path, subject FROM apikey_limits'), 'acme/pay|', 'a developer those of the project');
is(sql('anna', 'SELECT count(*), count(key_id), count(path), count(role_name), count(subject) FROM apikey_limits'), '5|1|3|1|2', 'the owner all');
is(sql('anna', "SELECT path, role_name, subject, unit, kind, amount, period, shared, overdraft, created_by FROM apikey_limits WHERE id = '$of_subject'"),
	'|anna|carl|t|rate|10|01:00:00|f|0|anna', 'the view');

# UPDATE of the view; other columns are not for that.
is(state_of('anna', "UPDATE apikey_limits SET amount = 20, shared = true WHERE id = '$of_project' RETURNING amount"), '20', 'another amount');
is(state_of('anna', "UPDATE apikey_limits SET unit = 'x' WHERE id = '$of_project'"), '42501', 'not another unit');
is(state_of('anna', "UPDATE apikey_limits SET amount = 0 WHERE id = '$of_project'"), '22023', 'not nothing');
is(state_of('anna', "UPDATE apikey_limits SET amount = NULL WHERE id = '$of_project'"), '22004', 'not null');
is(state_of('anna', "UPDATE apikey_limits SET overdraft = 5 WHERE id = '$of_project'"), '22023', 'no overdraft of a rate');
is(state_of('bert', "UPDATE apikey_limits SET amount = 30 WHERE id = '$of_project'"), '42501', 'by its owner');
limit('anna', "'t', 10, '2 hours', path => 'acme/pay'");
is(state_of('anna', "UPDATE apikey_limits SET period = '2 hours' WHERE id = '$of_project'"), '23505', 'not what there is already');
is(state_of('anna', "INSERT INTO apikey_limits (unit) VALUES ('x')"), '42501', 'no INSERT');
is(state_of('anna', 'DELETE FROM apikey_limits'), '42501', 'no DELETE');
sql('anna', 'SELECT apikey_limit_drop(id) FROM apikey_limits');
is(sql('anna', q{SELECT event, count(*) FROM apikey_events WHERE event LIKE 'limit%' AND detail->>'unit' = 't' AND detail->>'period' IN ('01:00:00', '02:00:00') GROUP BY 1 ORDER BY 1}),
	"limit_dropped|6\nlimit_set|7", 'each is told');

# A caller that has a subject only makes tighter, and drops nothing.
$node->safe_psql('postgres', "ALTER SYSTEM SET apikey.subject_setting = 'app.uid'");
$node->reload;
sub as { my ($subject, $sql) = @_; return state_of('web', "SET app.uid = '$subject';\n$sql") }
my $her = as('dora', "SELECT apikey_create('hers')");
my $tight = as('dora', "SELECT apikey_limit_set('t', 10, '1 hour', subject => 'dora')");
like($tight, qr/-/, 'her own');
is(as('dora', "SELECT apikey_limit_set('t', 10, '1 hour', subject => 'emil')"), '42501', 'not another subject');
is(as('dora', "SELECT apikey_limit_set('t', 5, '1 hour', subject => 'dora')"), $tight, 'tighter');
is(as('dora', "SELECT apikey_limit_set('t', 6, '1 hour', subject => 'dora')"), '42501', 'not looser');
is(as('dora', "UPDATE apikey_limits SET period = '2 hours' WHERE id = '$tight'"), '42501', 'nor of another period');
is(as('dora', "SELECT apikey_limit_drop('$tight')"), '42501', 'nor none');
is(as('emil', "SELECT apikey_limit_drop('$tight')"), '42704', 'which is nobody else\'s');
is(as('emil', 'SELECT count(*) FROM apikey_limits'), '0', 'nor seen');
is(as('dora', 'SELECT amount FROM apikey_limits'), '5', 'but by her');
my $hers = as('dora', "SELECT apikey_limit_set('t', 10, NULL, 'balance', key => apikey_id('$her'))");
is(as('dora', "SELECT apikey_limit_add('$hers', 1)"), '42501', 'nor more of a balance');
is(as('dora', "SELECT apikey_limit_set('t', 11, NULL, 'balance', key => apikey_id('$her'))"), '42501', 'nor of a key of hers');
# So it is where another change of the limit is not committed yet.  What calls return
# that wait, one begun after the other, for what a session has done, until it ends that.
sub while_held
{
	my ($hold, $end, @calls) = @_;
	my $held = $node->background_psql('postgres');
	my @waiting;
	$held->query_safe($hold);
	for my $call (@calls)
	{
		my $one = { said => '' };
		$one->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('postgres') . ' application_name=waiting', '-c', $call ], '>&', \$one->{said});
		push @waiting, $one;
		my $wait = q{SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name = 'waiting' AND NOT granted};
		my $come = 0;
		for (1 .. 300)
		{
			last if $come = $node->safe_psql('postgres', $wait) == @waiting;
			usleep(10_000);
		}
		die "it does not wait: $call" if !$come;
	}
	$held->query_safe($end);
	$_->{run}->finish for @waiting;
	$held->quit;
	return map { $_->{said} =~ /ERROR:  (\w+)/ ? $1 : $_->{said} =~ s/\s+\z//r } @waiting;
}
my $raced = as('', "SELECT apikey_limit_set('raced', 5, '1 hour', subject => 'dora')");
is_deeply([ while_held("SET ROLE web; BEGIN; UPDATE apikey_limits SET amount = 1 WHERE id = '$raced'", 'COMMIT',
			"SET ROLE web; SET app.uid = 'dora'; SELECT apikey_limit_set('raced', 4, '1 hour', subject => 'dora')") ],
	[ '42501' ], 'what was made tighter meanwhile is not made looser');
is(as('dora', "SELECT amount FROM apikey_limits WHERE id = '$raced'"), '1', 'but stays');
my $shared = as('', "SELECT apikey_limit_set('raced', 50, '1 day', 'quota', subject => 'dora')");
is_deeply([ while_held("SET ROLE web; BEGIN; UPDATE apikey_limits SET amount = 1000 WHERE id = '$shared'", 'COMMIT',
			"SET ROLE web; SET app.uid = 'dora'; SELECT apikey_limit_set('raced', 40, '1 day', 'quota', subject => 'dora')") ],
	[ $shared ], 'what is tighter than it became is set');
is(left_of($shared), '40', 'and as much is left of it');
my $filled = as('', "SELECT apikey_limit_set('raced', 50, NULL, 'balance', subject => 'dora')");
is_deeply([ while_held("BEGIN; SELECT FROM apikey_credit WHERE id = '$filled' FOR UPDATE", 'ROLLBACK',
			"SET ROLE web; SELECT apikey_limit_set('raced', 60, NULL, 'balance', subject => 'dora')", "SET ROLE web; SELECT apikey_limit_add('$filled', 5)") ],
	[ $filled, '65' ], 'nor do two deadlock');
as('', 'SELECT apikey_limit_drop(id) FROM apikey_limits WHERE unit = \'raced\'');
# Of a project's key, whoever may change it: its owners and admins.
$node->safe_psql('postgres', "SELECT apikey_grant('organizations', 'web')");
as('dora', "SELECT apikey_organization_create('doras')");
as('dora', "SELECT apikey_project_create('doras/shop')");
as('dora', "SELECT apikey_member_add('doras/shop', 'web', 'developer', 'emil')");
my $shop = as('dora', "SELECT apikey_create('shop', 'doras/shop')");
my $quota = as('dora', "SELECT apikey_limit_set('t', 10, '1 day', 'quota', key => apikey_id('$shop'))");
is(as('dora', "SELECT apikey_limit_set('t', 20, '1 day', 'quota', key => apikey_id('$shop'))"), $quota, 'its owner raises what a project\'s key has');
like(as('emil', "SELECT apikey_limit_set('t', 5, '1 day', 'quota', key => apikey_id('$shop'))"), qr/^42(?:501|704)$/, 'which no developer does');
is(as('dora', "SELECT apikey_limit_drop('$quota')"), 't', 'and drops it');
is(as('', "SELECT apikey_limit_set('t', 20, '1 hour', subject => 'dora')"), $tight, 'the role itself may');
is(as('', "SELECT apikey_limit_add('$hers', 5)"), '42704', 'of a key that is a subject\'s it knows nothing');
is(sql('postgres', "SELECT apikey_limit_add('$hers', 5)"), '15', 'which superusers do');
is(as('', "SELECT apikey_limit_drop('$tight')"), 't', 'and drop');
is(as('dora', "SELECT code, detail->'limits'->0->>'holder' FROM apikey_verify('$her', costs => '{\"t\": 5}')"), 'valid|key', 'of her key');
is(as('dora', "SELECT code, detail->'limit'->>'remaining' FROM apikey_verify('$her', costs => '{\"t\": 11}')"), 'exhausted|10', 'exhausted');
# One whose subject cannot be read is told nothing of what it names, there or not.
$node->safe_psql('postgres', "ALTER SYSTEM SET apikey.subject_setting = 'app.uid:sub'");
$node->reload;
my $none = '00000000-0000-0000-0000-000000000000';
my $kept = limit('anna', "'t', 10, NULL, 'balance', path => 'acme'");
for my $asked (["apikey_limit_drop('%s')", $kept, $none], ["apikey_limit_add('%s', 1)", $kept, $none],
	["apikey_limit_set('t', 1, '1 day', path => '%s')", 'acme', 'none'],
	["apikey_limit_set('t', 1, '1 day', path => '%s/pay')", 'acme', 'none'],
	["apikey_limit_set('t', 1, '1 day', path => '%s', subject => 'x')", 'acme', 'none'],
	["apikey_limit_set('t', 1, '1 day', subject => '%s')", 'dora', 'none'],
	["apikey_limit_set('t', 1, '1 day', key => %s)", $id, "'$none'"])
{
	my ($function, @names) = @$asked;
	is(as('[]', 'SELECT ' . sprintf($function, $_)), '22023', "unreadable: $function of $_") for @names;
}
sql('anna', "SELECT apikey_limit_drop('$kept')");
$node->safe_psql('postgres', 'ALTER SYSTEM RESET apikey.subject_setting');
$node->reload;

# All or none: what a later limit refuses, earlier ones have back.
my %limits = (
	key => limit('anna', "'tokens', 100, '1 hour', key => $id"),
	subject => limit('anna', "'tokens', 90, '1 day', 'quota', path => 'acme/pay', subject => 'carl'"),
	project => limit('anna', "'tokens', 80, NULL, 'balance', path => 'acme/pay'"),
	organization => limit('anna', "'tokens', 70, '1 hour', path => 'acme'"),
	requests => limit('anna', "'requests', 3, '1 hour', path => 'acme'"));
sub verify { my ($costs, $more) = @_; return again("SELECT code, detail->'limit'->>'holder', detail->'limit'->>'unit', detail->'limit'->>'kind' FROM apikey_verify('$key', project => 'acme/pay', costs => '{\"tokens\": $costs}'" . ($more // '') . ')') }
is(verify(20), 'valid|||', 'all pass');
is(join(' ', map { left_of($limits{$_}) } qw(key subject project organization requests)), '80 70 60 50 2', 'and all are spent');
is(verify(55), 'rate_limited|organization|tokens|rate', 'the organization refuses');
is(verify(65), 'exhausted|project|tokens|balance', 'the project comes before it');
is(verify(75), 'exhausted|subject|tokens|quota', 'the subject before that');
is(verify(85), 'rate_limited|key|tokens|rate', 'the key before all');
is(verify(10, ', cost => 4'), 'rate_limited|organization|requests|rate', 'requests cost, too');
is(join(' ', map { left_of($limits{$_}) } qw(key subject project organization requests)), '80 70 60 50 2', 'and nothing is spent');
is(again(qq{SELECT code, rate_remaining, detail->'limits' FROM apikey_verify('$key', project => 'acme/pay')}), 'valid|1|', 'without costs no list');
is(again(qq{SELECT string_agg(l->>'holder' || ' ' || (l->>'kind') || ' ' || (l->>'unit') || ' ' || (l->>'remaining'), ', ' ORDER BY o)
	FROM apikey_verify('$key', project => 'acme/pay', cost => 0, costs => '{}') v, jsonb_array_elements(v.detail->'limits') WITH ORDINALITY AS e (l, o)}),
	'key rate tokens 80, subject quota tokens 70, project balance tokens 60, organization rate requests 1, organization rate tokens 50', 'the list, in its order');
is(sql('anna', qq{SELECT string_agg(k, ' ' ORDER BY k) FROM apikey_verify('$key', project => 'acme/pay', cost => 2) v, jsonb_object_keys(v.detail->'limit') k}),
	'amount holder kind period_seconds remaining resets_at unit', 'what is told of one');
# Its own key in another place is none of these.
is(again("SELECT code, jsonb_array_length(detail->'limits') FROM apikey_verify('$mine', costs => '{\"tokens\": 1000}')"), 'valid|0', 'a personal key of the same subject');
my $personal = limit('anna', "'tokens', 10, '1 hour', subject => 'carl'");
is(again("SELECT code, detail->'limit'->>'holder' FROM apikey_verify('$mine', costs => '{\"tokens\": 1000}')"), 'rate_limited|subject', 'which that subject\'s limit is about');
is(again("SELECT code FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{\"tokens\": 11}')"), 'valid', 'and that alone');

# A change is seen by the next verification, in another session too.
my $other = $node->background_psql('postgres');
my $small = qq{SELECT code FROM apikey_verify('$key', project => 'acme/pay', cost => 0, costs => '{"tokens": 5}')};
like($other->query_safe($small), qr/^valid/, 'passes');
sql('anna', "UPDATE apikey_limits SET amount = 1 WHERE id = '$limits{organization}'");
like($other->query_safe($small), qr/^rate_limited/, 'does not');
sql('anna', "SELECT apikey_limit_drop('$limits{organization}')");
like($other->query_safe($small), qr/^valid/, 'nor is limited');
$other->quit;

# Rates are exact, whatever the amount.
for my $amount (7, 1000003)
{
	my $rate = limit('anna', "'units', $amount, '31 days', key => $id");
	my $step = int($amount / 7);
	is(again(join '; ', map { qq{SELECT code FROM apikey_verify('$key', project => 'acme/pay', cost => 0, costs => '{"units": $_}')} } ($step) x 6, $amount - 6 * $step, 1),
		join("\n", ('valid') x 7, 'rate_limited'), "exactly $amount at once");
	sql('anna', "SELECT apikey_limit_drop('$rate')");
}
my $huge = limit('anna', "'units', 9007199254740992, '1 second', key => $id");
is(again(qq{SELECT code FROM apikey_verify('$key', project => 'acme/pay', cost => 0, costs => '{"units": 9007199254740992}')}), 'valid', 'the most there can be');
sql('anna', "SELECT apikey_limit_drop('$huge')");

# Replacing keeps what was spent; so does another amount by UPDATE.
my $of_words = limit('anna', "'words', 100, '1 day', 'quota', key => $id");
sub words { return again(qq{SELECT code, detail->'limit'->>'remaining' FROM apikey_verify('$key', project => 'acme/pay', cost => 0, costs => '{"words": $_[0]}')}) }
is(words(60), 'valid|', 'sixty');
is(limit('anna', "'words', 150, '1 day', 'quota', key => $id"), $of_words, 'the same limit');
is(left_of($of_words), 90, 'more is left');
sql('anna', "UPDATE apikey_limits SET amount = 70 WHERE id = '$of_words'");
is(left_of($of_words), 10, 'less');
is(words(11), 'exhausted|10', 'and that is so');
is(words(10), 'valid|', 'to the last');
like(sql('postgres', "SELECT resets_at AT TIME ZONE 'UTC' FROM apikey_limits WHERE id = '$of_words'"), qr/ 00:00:00$/, 'it ends with the day, in UTC');

# Rotation: the limits go on, and both keys draw on them.
my $next = sql('anna', "SELECT apikey_rotate($id, '1 hour')");
is(sql('anna', "SELECT key_id = apikey_id('$next') FROM apikey_limits WHERE id = '$of_words'"), 't', 'the successor\'s now');
is(again(qq{SELECT code FROM apikey_verify('$_', project => 'acme/pay', cost => 0, costs => '{"words": 1}')}), 'exhausted', 'spent by both') for $key, $next;
sql('anna', "SELECT apikey_limit_set('words', 72, '1 day', 'quota', key => apikey_id('$next'))");
is(again(qq{SELECT code FROM apikey_verify('$_', project => 'acme/pay', cost => 0, costs => '{"words": 1}')}), 'valid', 'and a change is seen by both') for $key, $next;
is(again(qq{SELECT code FROM apikey_verify('$key', project => 'acme/pay', cost => 0, costs => '{"words": 1}')}), 'exhausted', 'one for each');
is(state_of('anna', "SELECT apikey_limit_set('words', 1, '1 day', 'quota', key => $id)"), '55000', 'the old key is no holder any more');

# Charges.
$key = $next;
$id = "apikey_id('$key')";
sql('anna', 'SELECT apikey_limit_drop(id) FROM apikey_limits');
my $spent = limit('anna', "'tokens', 1000, '1 day', 'quota', path => 'acme/pay', overdraft => 100");
my $rated = limit('anna', "'tokens', 500, '31 days', path => 'acme'");
my $second = sql('anna', "SELECT apikey_create('second', 'acme/pay')");
sub charge { my ($tokens, $of) = @_; return state_of('anna', "SELECT apikey_charge(apikey_id('" . ($of // $key) . "'), '{\"tokens\": $tokens}', 'acme/pay')") }
sub lefts { return left_of($spent) . ' ' . left_of($rated) }
is(charge(300), '', 'charged');
is(lefts(), '700 200', 'of both');
is(charge(600), '', 'into debt');
is(lefts(), '100 0', 'of the rate');
is(again(qq{SELECT code FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{"tokens": 1}')}), 'rate_limited', 'which refuses');
is(charge(600), '', 'beyond');
is(lefts(), '-100 0', 'no further than the overdraft');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(charge(-50, $second), '', 'who has spent nothing');
is(lefts(), '-100 0', 'gives nothing back');
is(charge(-200), '', 'who has');
is(lefts(), '100 0', 'does, though not out of debt');
is(charge(-9007199254740992), '', 'all of it');
is(lefts(), '1000 500', 'and no more than that');
is(charge(-1), '', 'once');
is(lefts(), '1000 500', 'and not again');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(sql('anna', q{SELECT detail->>'holder', detail->>'dropped' FROM apikey_events WHERE event = 'overdrawn' ORDER BY id}), "project|400\norganization|500", 'what was dropped is told');
is(sql('anna', qq{SELECT event, count(*) FROM apikey_events WHERE event IN ('limit_low', 'limit_exhausted') AND detail->>'id' = '$spent' GROUP BY 1 ORDER BY 1}), "limit_exhausted|1\nlimit_low|1", 'low and exhausted, once');
# Neither is told where it is not so: of what was rolled back, or was asked for
# and is not there.  What is so later in the period is told then.
my $told = limit('anna', "'characters', 1000, '1 day', 'quota', path => 'acme/pay'");
sub told { $node->safe_psql('postgres', 'SELECT apikey_flush()'); return sql('anna', qq{SELECT string_agg(event || ' ' || (detail->>'remaining'), ', ' ORDER BY id) FROM apikey_events WHERE event IN ('limit_low', 'limit_exhausted') AND detail->>'id' = '$told'}) }
sub characters { my ($characters) = @_; return qq{SELECT code FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{"characters": $characters}')} }
is(again(characters(1001)), 'exhausted', 'more than there is');
is(told(), '', 'leaves it whole');
is(again('BEGIN; ' . characters(1000) . '; ROLLBACK'), 'valid', 'all of it, for a while');
is(told(), '', 'which is rolled back');
is(again(characters($_)), 'valid', "$_ of it") for 700, 200, 50;
is(told(), 'limit_low 100', 'low');
is(again(characters(51)), 'exhausted', 'more than the rest');
is(told(), 'limit_low 100', 'is not exhausted');
is(again(characters(50)), 'valid', 'the rest');
is(told(), 'limit_low 100, limit_exhausted 0', 'and exhausted');
sql('anna', "SELECT apikey_limit_drop('$told')");
# Undone with what it was done in; what is prepared is done.
sql('anna', "BEGIN", "SELECT apikey_charge($id, '{\"tokens\": 100}', 'acme')", 'SAVEPOINT a', "SELECT apikey_charge($id, '{\"tokens\": 200}', 'acme')",
	'ROLLBACK TO a', "SELECT apikey_charge($id, '{\"tokens\": 1000}', 'acme')", 'ROLLBACK');
is(lefts(), '1000 500', 'rolled back, what was to be dropped too');
sql('anna', "BEGIN READ ONLY", "SELECT apikey_charge($id, '{\"tokens\": 100}', 'acme')", 'SAVEPOINT a', "SELECT apikey_charge($id, '{\"tokens\": 200}', 'acme')", 'ROLLBACK TO a', 'COMMIT');
is(lefts(), '900 400', 'a savepoint, in a read-only transaction');
sql('anna', "BEGIN", "SELECT apikey_charge($id, '{\"tokens\": 100}', 'acme')", "PREPARE TRANSACTION 'charged'");
sql('postgres', "ROLLBACK PREPARED 'charged'");
is(lefts(), '800 300', 'prepared');
sql('anna', "BEGIN", "SELECT apikey_charge($id, '{\"tokens\": -100}', 'acme')", 'ROLLBACK');
is(lefts(), '800 300', 'what was given back and then not');
is(charge(-100), '', 'can be still');
is(lefts(), '900 400', 'given back');
# A spend that is rolled back cannot be given back.
again(qq{BEGIN; SELECT code FROM apikey_verify('$second', project => 'acme', cost => 0, costs => '{"tokens": 50}'); ROLLBACK});
is(charge(-50, $second), '', 'a spend that was undone');
is(left_of($spent), 900, 'cannot be given back');
# What is undone, or given back, long after it was done: what has come back by itself
# meanwhile is not given back once more, and nothing of another window, period or
# grant.
my $steps = limit('anna', "'steps', 10, '2 seconds', path => 'acme'");
sub steps { my ($count, $of) = @_; return "SELECT apikey_charge(apikey_id('" . ($of // $second) . "'), '{\"steps\": $count}', 'acme')" }
my $undone = $node->background_psql('postgres');
my @given;
$undone->query_safe('BEGIN');
for my $round (1, 2)
{
	sql('anna', steps(10));
	push @given, $node->background_psql('postgres');
	$given[-1]->query_safe($_) for 'BEGIN', steps(-10);
	$undone->query_safe($_) for "SAVEPOINT round_$round", steps(10);
	usleep(4_300_000);
}
my $began = time;
my $passed = 0;
sub pass_ten { $passed++ if again(qq{SELECT code FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{"steps": 10}')}) eq 'valid' }
pass_ten();
for my $round (2, 1)
{
	$undone->query_safe("ROLLBACK TO round_$round");
	pass_ten();
	$given[$round - 1]->query_safe('COMMIT');
	pass_ten();
}
cmp_ok($passed, '<=', 1 + (time - $began) / 2, 'what had come back passes once');
cmp_ok($passed, '>=', 1, 'as it had');
$_->quit for $undone, @given;
# Nor may what was given back, and then not, be given back once more.
sub steps_left { my ($test) = @_; cmp_ok(left_of($steps), '<=', 1 + 5 * (time - $began), $test) }
usleep(2_100_000);
sql('anna', steps(10));
$undone = $node->background_psql('postgres');
$undone->query_safe($_) for 'BEGIN', steps(-10);
usleep(2_100_000);
sql('anna', steps(10));
$undone->query_safe('ROLLBACK');
$began = time;
sql('anna', steps(10, $key), steps(-20));
steps_left('given back is what is out yet');
# Of a longer window.
$steps = limit('anna', "'steps', 10, '1 hour', path => 'acme'");
sql('anna', steps(10));
$undone->query_safe($_) for 'BEGIN', steps(10);
sql('anna', "SELECT apikey_limit_drop(id) FROM apikey_limits WHERE unit = 'steps' AND period = '2 seconds'", "UPDATE apikey_limits SET period = '2 seconds' WHERE id = '$steps'");
is(again(qq{SELECT code FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{"steps": 1}')}), 'rate_limited', 'the window has become shorter');
usleep(4_300_000);
$began = time;
sql('anna', steps(10, $key), steps(-10));
$undone->query_safe('ROLLBACK');
sql('anna', steps(-10));
steps_left('nothing of the longer one comes back');
$undone->quit;
sql('anna', "SELECT apikey_limit_drop('$steps')");
# What a verification has taken before it was refused, after others have.
my $jobs = limit('anna', "'jobs', 10000, '1 second', path => 'acme/pay'");
my $waits = limit('anna', "'waits', 100, '1 day', 'quota', path => 'acme'");
$node->safe_psql('postgres', q{
	CREATE FUNCTION take_jobs(key text, rate uuid) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz;
		took text;
	BEGIN
		FOR i IN 1 .. 5000 LOOP
			EXIT WHEN (SELECT remaining < 9900 FROM apikey_limits WHERE id = rate);
			PERFORM pg_sleep(0.001);
		END LOOP;
		PERFORM pg_sleep(0.05);
		began := clock_timestamp();
		took := (SELECT code FROM apikey_verify(key, project => 'acme', cost => 0, costs => '{"jobs": 5000}'));
		PERFORM pg_sleep(0.15);
		RETURN took || ', ' || (SELECT remaining <= 5001 + 10000 * extract(epoch FROM clock_timestamp() - began) FROM apikey_limits WHERE id = rate);
	END $$});
my $locked = $node->background_psql('postgres');
$locked->query_safe($_) for 'BEGIN', "UPDATE apikey_limits SET amount = 99 WHERE id = '$waits'";
my $refused = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SELECT pg_sleep(0.3)",
		'-c', qq{SELECT code FROM apikey_verify('$second', project => 'acme', cost => 0, costs => '{"jobs": 5000, "waits": 1}')} ], '>', \my $refusal);
like($node->safe_psql('postgres', "SELECT take_jobs('$key', '$jobs')"), qr/^\w+, true$/, 'of what was taken and not spent only the rest comes back');
$refused->finish;
like($refusal, qr/unavailable/, 'by one that waited in vain');
$locked->query_safe('ROLLBACK');
# Credits that are set anew.
my $granted = sql('anna', "SELECT apikey_create('granted', credits => 1000)");
sub requests { my ($count) = @_; return state_of('anna', "SELECT apikey_charge(apikey_id('$granted'), '{\"requests\": $count}')") }
is(requests(900), '', 'credits');
sql('anna', "UPDATE apikeys SET credits = 1000 WHERE name = 'granted'");
is(requests(-900), '', 'set anew');
is(sql('anna', "SELECT credits FROM apikeys WHERE name = 'granted'"), '1000', 'are not those that were spent');
is(requests(900), '', 'but of these');
is(requests(-900), '', 'all that was');
is(sql('anna', "SELECT credits FROM apikeys WHERE name = 'granted'"), '1000', 'comes back');
sql('anna', "SELECT apikey_delete(apikey_id('$granted'), 'granted')");
# A quota whose period ends while the lease is waited for that it goes back into, as
# there is none.
my $brief = limit('anna', "'brief', 1000, '3 seconds', 'quota', path => 'acme/pay'");
my $ends = sql('postgres', "SELECT apikey_charge($id, '{\"brief\": 900}', 'acme') \\g /dev/null\nSELECT resets_at FROM apikey_limits WHERE id = '$brief'");
sql('anna', "UPDATE apikey_limits SET amount = 950 WHERE id = '$brief'");
my $wait = "SELECT pg_sleep(extract(epoch FROM '$ends'::timestamptz - clock_timestamp())";
my $holding = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c',
		"BEGIN; SELECT FROM apikey_credit WHERE id = '$brief' FOR UPDATE; $wait + 0.02); ROLLBACK" ]);
state_of('postgres', "$wait - 0.05);\nSELECT apikey_charge($id, '{\"brief\": -900}', 'acme')");
$holding->finish;
cmp_ok(left_of($brief), '<=', 950, 'nothing goes into the next period');
sql('anna', "SELECT apikey_limit_drop(id) FROM apikey_limits WHERE unit IN ('jobs', 'waits', 'brief')");
# What comes back is not left in memory, where a crash would lose it: a lease is no
# larger for it.
my $large = limit('anna', "'large', 1000000, '1 day', 'quota', path => 'acme/pay'");
is(state_of('anna', "SELECT apikey_charge($id, '{\"large\": 500000}', 'acme/pay')"), '', 'much is charged');
is(state_of('anna', "SELECT apikey_charge($id, '{\"large\": -500000}', 'acme/pay')"), '', 'and given back');
$node->safe_psql('postgres', "ALTER SYSTEM SET apikey.flush_interval = '100ms'");
$node->reload;
my $in_memory;
for (1 .. 200)
{
	$in_memory = 1000000 - sql('postgres', "SELECT balance FROM apikey_credit WHERE id = '$large'");
	last if $in_memory <= 1000;
	usleep(100_000);
}
cmp_ok($in_memory, '<=', 1000, 'it goes back into the row with the next flush');
is(left_of($large), 1000000, 'all of it');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET apikey.flush_interval');
$node->reload;
# Whose key it is is asked as in verification.
is(state_of('anna', "SELECT apikey_charge($id, '{\"tokens\": 1}')"), '42704', 'a project\'s key is not the caller\'s');
is(state_of('anna', "SELECT apikey_charge($id, '{\"tokens\": 1}', 'acme/other')"), '42704', 'nor another project\'s');
is(state_of('cleo', "SELECT apikey_charge(apikey_id('$mine'), '{\"tokens\": 1}')"), '42704', 'nor somebody else\'s');
is(state_of('cleo', "SELECT apikey_charge(apikey_id('$mine'), '{\"tokens\": 1}', owner => 'anna')"), '', 'but where it is named');
is(state_of('cleo', "SELECT apikey_charge(gen_random_uuid(), '{\"tokens\": 1}', 'acme')"), '42704', 'nor one that is none');
is(state_of('cleo', "SELECT apikey_charge(NULL, '{}')"), '22004', 'null');
is(state_of('anna', "SELECT apikey_charge($id, NULL)"), '22004', 'null costs');
is(state_of('anna', "SELECT apikey_charge($id, '$_', 'acme')"), '22023', $_) for '{"tokens": 0.5}', '{"tokens": "1"}', '[]', '{"tokens": -9007199254740993}', '{"tokens": 1e300}';
# A charge remembers the key, but no secret of it: what was never offered matches nothing.
is(sql('anna', "SELECT apikey_charge($id, '{}', 'acme')", "SELECT string_agg(code, ' ' ORDER BY o) FROM (VALUES (1, sha256('')), (2, decode(repeat('00', 32), 'hex')), (3, sha256('$key'))) d (o, digest), LATERAL apikey_verify_digest(left('$key', -39), digest, project => 'acme', cost => 0)",
	"SELECT code FROM apikey_verify('$key', project => 'acme', cost => 0)"), "\nnot_found not_found valid\nvalid", 'a key that was charged is proven by its secret alone');
# Revoked and deleted keys: a call that was on its way.
sql('anna', "SELECT apikey_revoke($id)");
is(charge(10), '', 'revoked');
is(left_of($spent), 890, 'counts');
sql('anna', "SELECT apikey_delete($id, 'one')");
is(charge(10), '', 'deleted');
is(left_of($spent), 880, 'counts, too');
is(charge(-10), '', 'also what it gives back');
is(left_of($spent), 890, 'as it had spent it');
# A personal key's for its subject: deleted, or purged.
my $of_customer = sql('cleo', "SELECT apikey_limit_set('calls', 100, '1 day', 'quota', subject => 'customer')");
for my $end ("apikey_delete(id, 'ends')", 'apikey_revoke(id)')
{
	my $personal = sql('cleo', "SELECT apikey_id(apikey_create('ends', subject => 'customer'))");
	sql('cleo', "SELECT apikey_charge('$personal', '{\"calls\": 5}')");
	my $before = left_of($of_customer);
	sql('cleo', "SELECT $end FROM apikeys WHERE name = 'ends'");
	sql('cleo', "SELECT apikey_purge('0')");
	is(sql('cleo', "SELECT count(*) FROM apikeys WHERE name = 'ends'"), '0', 'gone');
	is(state_of('cleo', "SELECT apikey_charge('$personal', '{\"calls\": 7}')"), '', 'a personal key, ended');
	is(left_of($of_customer), $before - 7, 'is charged for its subject');
	is(state_of('cleo', "SELECT apikey_charge('$personal', '{\"calls\": -7}')"), '', 'and given back to');
	is(left_of($of_customer), $before, 'all of it');
}
sql('postgres', "UPDATE apikey_deleted SET deleted_at = deleted_at - interval '24 hours'");
is(charge(10), '42704', 'for a day');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(sql('postgres', 'SELECT count(*) FROM apikey_deleted'), '0', 'then it is forgotten');

# The state outlives a clean restart; a rate's debt does, too.
is(charge(700, $second), '', 'into debt');
$node->restart;
is(lefts(), '190 0', 'after a restart');
is(again(qq{SELECT code FROM apikey_verify('$second', project => 'acme', cost => 0, costs => '{"tokens": 1}')}), 'rate_limited', 'still in debt');

# What is left ends where a number does.
my $sums = limit('anna', "'sums', 1, NULL, 'balance', key => apikey_id('$second')");
sql('anna', "SELECT count(apikey_limit_add('$sums', 9007199254740992)) FROM generate_series(1, 1023)");
sql('anna', "UPDATE apikey_limits SET amount = $_ WHERE id = '$sums'") for 9007199254740992, 1, 9007199254740992;
cmp_ok(left_of($sums), '>', 9e18, 'a balance does not wrap round');
sql('postgres', "UPDATE apikey_credit SET balance = -9223372036854775000 WHERE id = '$sums'");
sql('anna', "UPDATE apikey_limits SET amount = 1 WHERE id = '$sums'");
cmp_ok(left_of($sums), '<', -9e18, 'below zero neither');
sql('postgres', "UPDATE apikey_credit SET balance = 9223372036854775000 WHERE id = '$sums'");
sql('anna', "UPDATE apikey_limits SET overdraft = 9007199254740992 WHERE id = '$sums'");
is(again(qq{SELECT code FROM apikey_verify('$second', project => 'acme', cost => 0, costs => '{"sums": 1000}')}), 'valid', 'much is left');
sql('anna', qq{SELECT apikey_charge(apikey_id('$second'), '{"sums": 5000000}', 'acme/pay')});
is(left_of($sums), '9223372036849774000', 'a charge is taken as a whole of it, whatever may be overdrawn');
sql('anna', "SELECT apikey_limit_drop('$sums')");

# Dropping a project drops its limits; a key its own.
sql('anna', "SELECT apikey_limit_set('t', 1, '1 day', key => apikey_id('$second')), apikey_limit_set('t', 1, '1 day', path => 'acme/pay', subject => 'x')");
sql('anna', "SELECT apikey_project_drop('acme/pay', 'acme/pay')");
is(sql('postgres', "SELECT count(*) FROM apikey_limit WHERE project IS NOT NULL OR key IS NOT NULL AND key = apikey_id('$second')"), '0', 'with what they were of');
is(sql('anna', "SELECT apikey_organization_drop('acme', 'acme')"), 't', 'the organization');
is(sql('postgres', "SELECT count(*) FROM apikey_limit WHERE organization IS NOT NULL"), '0', 'likewise');
is(sql('postgres', "SELECT count(*) FROM apikey_credit c WHERE NOT EXISTS (SELECT FROM apikey_limit l WHERE l.id = c.id)"), '0', 'accounts and all');
$node->stop;
done_testing();
