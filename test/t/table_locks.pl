# A role that has nothing but the schema's usage keeps others from our tables:
# PostgreSQL queues for its CREATE RULE before it looks whose the table is, and
# it has itself, in a second session, what that waits for.  A verification waits
# 100 ms for that and cannot tell then; whatever else is called ends after 5 s
# and says who has what is waited for; and all goes on once that has ended.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\nautovacuum = off\napikey.flush_interval = '1h'");
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }

sql(q{CREATE ROLE anna; CREATE ROLE eve; CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO PUBLIC;
	CREATE EXTENSION apikey SCHEMA auth CASCADE;
	GRANT EXECUTE ON FUNCTION auth.apikey_organization_create, auth.apikey_import TO anna;
	ALTER DATABASE postgres SET search_path = auth, public;
	CREATE FUNCTION public.timed(call text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		begun timestamptz := clock_timestamp();
		answer text;
		about text;
	BEGIN
		BEGIN
			EXECUTE call INTO answer;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS about = PG_EXCEPTION_DETAIL;
			answer := concat_ws(' ', SQLSTATE, SQLERRM, about);
		END;
		RETURN concat(round(1000 * extract(epoch FROM clock_timestamp() - begun)), '|', answer);
	END $$});
my $as = 'SET ROLE anna;';
sql(qq{$as SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay')});
my $key = sql(qq{$as SELECT apikey_create('one', 'acme/pay')});
my $other = sql(qq{$as SELECT apikey_create('two', 'acme/pay')});
my $long = sql(qq{$as SELECT apikey_create('long', 'acme/pay', metadata => jsonb_build_object('long', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) n)))});
my $spent = sql(qq{$as SELECT apikey_create('spent', 'acme/pay', credits => 10)});
sql(qq{$as SELECT apikey_import('old', 'md5', md5('from elsewhere'), project => 'acme/pay');
	SELECT apikey_import('slow', 'crypt', crypt('slow_1234567', gen_salt('bf', 4)), lookup => 'slow_123', project => 'acme/pay')});
sql('CREATE TABLE public.own (one integer); GRANT ALL ON public.own TO anna; CREATE VIEW public.apikey_own AS TABLE public.own; GRANT ALL ON public.apikey_own TO anna');
my $id = sql("SELECT apikey_id('$key')");
my $other_id = sql("SELECT apikey_id('$other')");
sub verify_of { return "SELECT code FROM apikey_verify('$_[0]', project => 'acme')" }

# Calls at once, each in a session of its own, after some settings: how long in
# milliseconds, and the answer.
sub calls
{
	my ($settings, @calls) = @_;
	my @running;
	for my $call (@calls)
	{
		my $quoted = $call =~ s/'/''/gr;
		open my $out, '-|', 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET ROLE anna; $settings", '-c', "SELECT timed('$quoted')"
		  or die "psql: $!";
		push @running, $out;
	}
	my @answers;
	for my $out (@running)
	{
		local $/;
		my $answer = <$out>;
		close $out;
		chomp $answer;
		push @answers, [ split /\|/, $answer, 2 ];
	}
	return @answers;
}

# Has what is queued for, and queues for it.
my $holder = $node->background_psql('postgres');
my $queue = $node->background_psql('postgres', on_error_stop => 0);
my $holder_pid = $holder->query_safe('SELECT pg_backend_pid()');
my $queue_pid = $queue->query_safe('SELECT pg_backend_pid()');
$_->query_safe('SET ROLE eve') for $holder, $queue;

# Asks in a session that is there, as nobody can connect where some catalogs are kept from all.
my $warm = $node->background_psql('postgres');
sub come_to
{
	my ($query) = @_;
	for (1 .. 600)
	{
		return 1 if $warm->query_safe($query) eq 't';
		sleep 0.1;
	}
	return 0;
}

sub keep_from
{
	my ($relation, $hold) = @_;
	$relation = "auth.$relation" if $relation !~ /^pg_/;
	$holder->query_safe('BEGIN');
	$holder->query_safe($hold // "PREPARE held AS SELECT 1 FROM $relation");
	$queue->query_until(qr/queued/, "\\echo queued\nCREATE RULE r AS ON UPDATE TO $relation DO ALSO NOTHING;\n");
	ok(come_to("SELECT count(*) > 0 FROM pg_locks WHERE pid = $queue_pid AND NOT granted"), "$relation: queued for");
}

sub let_go
{
	$holder->query_safe('ROLLBACK');
	$holder->query_safe('DEALLOCATE ALL');
	$queue->query('SELECT 1');
	$queue->{stderr} = '';
}

sub is_soon { my ($answer, $expected, $name) = @_; like($answer->[1], $expected, $name); cmp_ok($answer->[0], '<', 2000, "$name: soon") }
sub is_refused
{
	my ($answer, $relation, $name) = @_;
	like($answer->[1], qr/^55P03 could not lock "$relation" while somebody else has it locked, or waits to lock it Process $holder_pid has what is waited for\.$/, $name);
	cmp_ok($answer->[0], '>', 4500, "$name: not before 5 seconds");
	cmp_ok($answer->[0], '<', 9000, "$name: after 5 seconds");
}

my $verify = verify_of($key);
is($warm->query_safe($verify), 'valid', 'warm');

# The table of keys, which all need.
my @verifications = ($verify, "SELECT apikey_check('$key', project => 'acme')",
	"SELECT code FROM apikey_verify_digest(left('$key', -39), sha256('$key'), project => 'acme')",
	verify_of('from elsewhere'),
	"SELECT code FROM apikey_verify('$long', project => 'acme', cost => 0)", verify_of($spent));
my @changes = (q{SELECT apikey_create('more', 'acme/pay')}, "SELECT apikey_revoke('$id')", "SELECT apikey_disable('$id')",
	"SELECT apikey_rotate('$id')", "SELECT apikey_delete('$id', 'one')", 'SELECT count(*) FROM apikeys', "UPDATE apikeys SET description = 'new'",
	"SELECT code FROM apikey_scan('$key')", "SELECT apikey_self_revoke('$key')", q{SELECT apikey_project_drop('acme/pay', 'acme/pay')});
my $log = -s $node->logfile;
keep_from('apikey_key');
is_soon($_, qr/^(unavailable|false)$/, 'kept from the keys, a verification') for calls('', @verifications);
is_soon((calls('', "SELECT apikey_authenticate('$key', project => 'acme')"))[0], qr/^28000 .*unavailable$/, 'the same, authenticating');
is_soon((calls("SET default_transaction_isolation = 'serializable';", $verify))[0], qr/^unavailable$/, 'the same of a serializable transaction');
is($warm->query_safe($verify), 'valid', 'what is remembered verifies on');
sql('CREATE SCHEMA elsewhere; GRANT USAGE ON SCHEMA elsewhere TO PUBLIC; CREATE TEMP TABLE made (); DROP SCHEMA elsewhere');
is($warm->query_safe($verify), 'valid', 'whatever is done to another schema');
like(slurp_file($node->logfile, $log), qr/some API keys cannot be verified\n.*DETAIL:  Somebody else has "apikey_\w+" locked, or waits to lock it/, 'the log is told why');
is_refused($_, 'apikey_key', 'kept from the keys, another call') for calls('', @changes);
is_soon($_, qr/^55P03 canceling statement due to lock timeout/, 'a shorter lock_timeout holds')
  for calls("SET lock_timeout = '100ms';", $changes[0], $changes[1], $changes[5]);
is_soon($_, qr/^unavailable$/, 'and raises nothing in a verification') for calls("SET lock_timeout = '20ms';", $verify);
my ($rc, $stdout, $stderr) = $node->psql('postgres', "SET ROLE anna; SET apikey.cache_entries = 0; SET statement_timeout = '30ms'; $verify");
like($stderr, qr/canceling statement due to statement timeout/, 'a verification can be cancelled');
let_go();
is_soon($_, qr/^valid$/, 'let go, all goes on') for calls('', $verify);

# It takes what it waits for, once that is free; a change of its own before does not keep it.
keep_from('apikey_key');
my $waiter = $node->background_psql('postgres');
$waiter->query_safe(q{SET ROLE anna});
$waiter->query_until(qr/begun/, "\\echo begun\nSELECT apikey_rename('$id', 'named');\n");
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'SELECT apikey_rename%' AND wait_event_type = 'Lock'});
let_go();
like($waiter->query_safe("SELECT name FROM apikeys WHERE id = '$id'"), qr/named$/, 'a change that waited is made');
$waiter->query_safe("BEGIN; SELECT apikey_rename('$id', 'one')");
keep_from('apikey_key');
is($waiter->query_safe("SET LOCAL apikey.cache_entries = 0; $verify"), 'valid', 'who has a table already is kept from nothing');
is($waiter->query_safe(q{SELECT count(*) FROM apikeys}), 6, 'nor does it wait to list');
$waiter->query_safe('COMMIT');
let_go();

# Others, of which some calls need none.
for my $of (
	[ 'apikey_digest', $changes[0], [ $verify ] ],
	[ 'apikey_project', $changes[0], [ $verify ] ],
	[ 'apikey_member', q{SELECT apikey_member_add('acme/pay', 'eve', 'developer')}, [ $verify ] ],
	[ 'apikey_limit', qq{SELECT apikey_limit_set('calls', 5, NULL, 'balance', key => '$id')}, [ $verify ] ],
	[ 'apikey_import', q{SELECT apikey_import('older', 'md5', md5('older'), project => 'acme/pay')}, [ verify_of('from elsewhere') ] ],
	[ 'apikey_event', "SELECT apikey_disable('$id')", [] ],
	[ 'apikey_credit', q{SELECT apikey_create('credited', 'acme/pay', credits => 1)}, [ verify_of($spent) ] ])
{
	my ($relation, $change, $verifications) = @$of;
	is($warm->query_safe($verify), 'valid', "$relation: warm");
	keep_from($relation);
	is_soon($_, qr/^unavailable$/, "$relation: a verification") for calls('', @$verifications);
	is_refused($_, $relation, "$relation: a change") for calls('', $change);
	is($warm->query_safe($verify), 'valid', "$relation: what is remembered");
	let_go();
}

# What is there is not told by it: whoever may know nothing of it waits all the same.
my @unlike = (q{SELECT apikey_member_remove('%s', 'eve')}, q{SELECT apikey_member_remove('%s/pay', 'eve')}, q{SELECT apikey_create('guessed', '%s/pay')});
my @of_keys = map { my $call = $_; map { sprintf $call, $_ } $id, $id =~ s/^.{8}/018f3a5c/r } (
	q{SELECT apikey_rename('%s', 'new')}, q{SELECT apikey_revoke('%s')}, q{SELECT apikey_limit_set('calls', 1, '1 day', key => '%s')}, q{SELECT apikey_charge('%s', '{"calls": 1}')});
for my $relation ('apikey_administrator', 'apikey_member', 'apikey_project')
{
	keep_from($relation);
	like($_->[1], qr/^55P03 canceling statement due to lock timeout/, "kept from $relation, a stranger waits for what is there as for what is not")
	  for calls("SET ROLE eve; SET lock_timeout = '100ms';", @of_keys, map { my $call = $_; map { sprintf $call, $_ } qw(acme none) } @unlike);
	let_go();
}
keep_from('apikey_deleted');
like($_->[1], qr/^55P03 canceling statement due to lock timeout/, 'the same of a charge, kept from what tells of deleted keys')
  for calls("SET ROLE eve; SET lock_timeout = '100ms';", @of_keys[-2, -1]);
let_go();
sql(qq{$as SELECT apikey_organization_create('dropped'), apikey_organization_create('taken'); SELECT apikey_organization_drop('dropped', 'dropped')});
sql(q{GRANT EXECUTE ON FUNCTION auth.apikey_organization_create TO eve});
keep_from('apikey_name_hold');
like($_->[1], qr/^55P03 canceling statement due to lock timeout/, 'kept from the names, for one that is taken as for one that is held')
  for calls("SET ROLE eve; SET lock_timeout = '100ms';", map { "SELECT apikey_organization_create('$_')" } qw(taken dropped free));
let_go();

# An index, which whoever has verified has locked.  It is needed for a key of
# which nobody has remembered where its rows are.
my $fresh = sql(qq{$as SELECT apikey_create('fresh', 'acme/pay')});
keep_from('apikey_digest_pkey', "SELECT auth.apikey_check('$other', project => 'acme')");
is_soon($_, qr/^unavailable$/, 'an index: a verification') for calls('', verify_of($fresh));
is_refused($_, 'apikey_digest', 'an index: a change') for calls('', $changes[0]);
let_go();
is_soon($_, qr/^valid$/, 'let go, all goes on') for calls('', verify_of($fresh));

# What is beside a table, which a superuser has while it indexes it anew.
my $toast = sql(q{SELECT indexrelid::regclass FROM pg_index JOIN pg_class c ON indrelid = c.reltoastrelid WHERE c.oid = 'apikey_key'::regclass});
my $superuser = $node->background_psql('postgres');
$superuser->query_safe("BEGIN; REINDEX INDEX $toast");
is_soon($_, qr/^unavailable$/, 'beside a table: a verification') for calls('', verify_of($long));
is_soon($_, qr/^valid$/, 'of what is not beside it') for calls('', $verify);
$superuser->query_safe('COMMIT');
is_soon($_, qr/^valid$/, 'let go, all goes on') for calls('', verify_of($long));

# Catalogs of the server's that no statement reads, but we do, where nothing is known yet.
my $bounded = "SET statement_timeout = '30s';";
my @own = ('INSERT INTO public.apikey_own VALUES (1)', 'DELETE FROM public.apikey_own');
my $grant = q{SELECT apikey_grant('stats', 'eve')};
sql(q{CREATE ROLE keeper; DO $$ BEGIN EXECUTE format('GRANT %I TO keeper', current_user); END $$});
for my $catalog ('pg_extension', 'pg_depend')
{
	is($warm->query_safe($verify), 'valid', "$catalog: warm");
	keep_from($catalog);
	is_soon($_, qr/^unavailable$/, "$catalog: a verification") for calls($bounded, $verify);
	is($warm->query_safe(q{SET statement_timeout = '30s'; SELECT code FROM apikey_verify('slow_1234', project => 'acme')}), 'unavailable', "$catalog: a key whose hash takes pgcrypto");
	is_refused($_, $catalog, "$catalog: a change") for calls($bounded, @changes[0, 6]);
	is_refused($_, $catalog, "$catalog: a privilege") for calls("$bounded RESET ROLE;", $grant), calls("$bounded SET ROLE keeper;", $grant);
	is_soon((calls($bounded, "$_ RETURNING 1"))[0], qr/^1$/, "$catalog: $_") for @own;
	is($warm->query_safe($verify), 'valid', "$catalog: what is remembered");
	let_go();
}
# A change of another's view, which is called as ours are, waits for no index of theirs either.
for my $of ([ 'pg_extension_name_index', 'SELECT count(*) FROM pg_extension' ], [ 'pg_depend_depender_index', 'SELECT count(*) FROM pg_depend WHERE classid = 1' ])
{
	my ($index, $hold) = @$of;
	keep_from($index, $hold);
	is_soon((calls($bounded, "$_ RETURNING 1"))[0], qr/^1$/, "$index: $_") for @own;
	let_go();
}
is_soon($_, qr/^valid$/, 'let go, all goes on') for calls('', $verify);
# What a member is, and who is a member of which role, of an admin of the project, before
# whom the organization's owner stands.  Who has read that goes on.
sql(q{CREATE ROLE bert});
sql(qq{$as SELECT apikey_member_add('acme/pay', 'bert', 'admin')});
my $berts = sql(q{SET ROLE bert; SELECT apikey_create('berts', 'acme/pay')});
my $berts_id = sql("SELECT apikey_id('$berts')");
for my $catalog ('pg_enum', 'pg_auth_members')
{
	is($warm->query_safe(verify_of($berts)), 'valid', "$catalog: warm");
	keep_from($catalog);
	is_soon($_, qr/^unavailable$/, "$catalog: a verification") for calls($bounded, verify_of($berts));
	is_refused($_, $catalog, "$catalog: another call") for calls("$bounded SET ROLE bert;", q{SELECT apikey_create('kept', 'acme/pay')}, 'SELECT count(*) FROM apikeys');
	is($warm->query_safe(verify_of($berts)), 'valid', "$catalog: what is remembered");
	$warm->query_safe('SET apikey.cache_entries = 0');
	is($warm->query_safe(verify_of($berts)), 'valid', "$catalog: what is read by who has read of its owner");
	$warm->query_safe('RESET apikey.cache_entries');
	let_go();
}

# Roles themselves: then nobody can connect, but many are connected.
sql('CREATE ROLE carl');
my $carls = sql(q{SET ROLE carl; SELECT apikey_create('carls')});
is(sql("SET ROLE carl; SELECT apikey_revoke(apikey_id('$carls'), 'gone')"), 't', 'a key that is revoked');
my @late = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 4;
$_->query_safe(q{SET ROLE anna; SET statement_timeout = '30s'; SELECT timed('SELECT 1')}) for @late;
sub late { my ($call) = @_; my $quoted = $call =~ s/'/''/gr; return [ split /\|/, shift(@late)->query_safe("SELECT timed('$quoted')"), 2 ] }
is($warm->query_safe(verify_of($berts)), 'valid', 'pg_authid: warm');
my @sessions = @late;
keep_from('pg_authid');
is_soon(late(verify_of($berts)), qr/^unavailable$/, 'pg_authid: a verification');
is_soon(late(verify_of($carls)), qr/^(revoked|unavailable)$/, 'pg_authid: of a key that is revoked');
is_refused(late("SELECT apikey_disable('$berts_id')"), 'pg_authid', 'pg_authid: a change');
is($warm->query_safe(verify_of($berts)), 'valid', 'pg_authid: what is remembered');
let_go();
is_soon(late(verify_of($berts)), qr/^valid$/, 'let go, all goes on');
$_->quit for @sessions;

# Triggers, which PostgreSQL reads to open a table, and we of one that is not open:
# whatever a session hears of, a verification is not held up by that.
$warm->query_safe(q{SET statement_timeout = '30s'});
is($warm->query_safe($verify), 'valid', 'pg_trigger: warm');
$superuser->query_safe('BEGIN; ANALYZE auth.apikey_deleted');
keep_from('pg_trigger');
$superuser->query_safe('COMMIT');
is($warm->query_safe($verify), 'unavailable', 'pg_trigger: a verification');
let_go();
is($warm->query_safe($verify), 'valid', 'let go, all goes on');

# Who is to number an event, and waits for what tells of the sequence, keeps nobody waiting who knows it.
my $changing = $node->background_psql('postgres');
my $cold = $node->background_psql('postgres', on_error_stop => 0);
$_->query_safe(q{SET ROLE anna; SET statement_timeout = '8s'}) for $changing, $cold;
$changing->query_safe("SELECT apikey_rename('$berts_id', 'known')");
keep_from('pg_sequence');
$cold->query_until(qr/begun/, "\\echo begun\nSELECT apikey_create('held', 'acme/pay');\n");
ok(come_to(q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'pg_sequence'::regclass AND mode = 'AccessShareLock' AND NOT granted}), 'pg_sequence: one waits');
is($changing->query_safe("SELECT apikey_revoke('$berts_id')"), 't', 'another revokes');
is_refused($_, 'pg_sequence', 'pg_sequence: a change') for calls($bounded, @changes[0, 2]);
let_go();
$_->query('ROLLBACK'), $_->quit for $changing, $cold;
is_soon($_, qr/^valid$/, 'let go, all goes on') for calls('', $verify);
$_->quit for $holder, $queue, $warm, $waiter, $superuser;

# A primary that would be a member elsewhere, as after a promotion: by the catalog
# of subscriptions, which all databases share, it is told which it is.
$node->append_conf('postgresql.conf', "apikey.fleet = on\napikey.primary_conninfo = '" . $node->connstr . " user=fleet dbname=postgres'");
$node->restart;
sql('CREATE DATABASE other');
$warm = $node->background_psql('postgres');
$warm->query_safe('SET ROLE anna');
my $leased = sql(qq{$as SELECT apikey_create('leased', 'acme/pay', credits => 1000)});
sub soon
{
	my ($of, $code) = @_;
	for (1 .. 10)
	{
		$code = $warm->query_safe(verify_of($of));
		last if $code ne 'unavailable';
	}
	return $code;
}
is(soon($leased), 'valid', 'a primary leases credits');
$holder = $node->background_psql('other');
$queue = $node->background_psql('other', on_error_stop => 0);
$queue_pid = $queue->query_safe('SELECT pg_backend_pid()');
$_->query_safe('SET ROLE eve') for $holder, $queue;
$log = -s $node->logfile;
keep_from('pg_subscription');
my $later = sql(qq{$as SELECT apikey_create('later', 'acme/pay', credits => 1000)});
is(soon($later), 'valid', 'in whatever database somebody keeps it from that catalog');
my $newest = sql(qq{$as SELECT apikey_create('newest', 'acme/pay', credits => 1000)});
my $answer;
for (1 .. 10)
{
	($answer) = calls("SET statement_timeout = '3s';", verify_of($newest));
	last if $answer->[1] =~ /^valid/;
}
like($answer->[1], qr/^valid$/, 'for who has not looked either');
sql("$bounded SELECT apikey_flush()");
is(sql(q{SELECT use_count > 0 FROM apikeys WHERE name = 'later'}), 't', 'and writes what is used');
sql(q{ALTER SYSTEM SET apikey.max_staleness = '1min'});
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT current_setting('apikey.max_staleness') = '1min'}), 'what is to be fresh');
is_soon($_, qr/^unavailable$/, 'cannot be told so by who has not looked') for calls($bounded, $verify);
is($warm->query_safe($verify), 'valid', 'but by who has');
like(slurp_file($node->logfile, $log), qr/some API keys cannot be verified\n.*DETAIL:  Somebody else has "pg_subscription" locked, or waits to lock it/, 'the log is told why');
unlike(slurp_file($node->logfile, $log), qr/background worker "apikey[^"]*" \(PID \d+\) exited with exit code [1-9]|canceling statement due to lock timeout/, 'no worker ends');
let_go();
is_soon($_, qr/^valid$/, 'let go, all goes on') for calls('', $verify);
is(sql(q{SELECT count(*) FROM pg_rules WHERE rulename = 'r'}), 0, 'nothing of all that was allowed');
my $timed = sql(q{SELECT pg_get_functiondef('public.timed'::regproc)});
$_->quit for $holder, $queue, $warm;
$node->stop;

# Without the library preloaded a verification writes what it spends, and when a key
# was used: it waits no longer for what PostgreSQL reads to write a row.
$node = PostgreSQL::Test::Cluster->new('plain');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\napikey.usage_interval = '1s'");
$node->start;
sql("CREATE ROLE anna; CREATE ROLE eve; CREATE EXTENSION apikey CASCADE; $timed");
my $used = sql("$as SELECT apikey_create('used')");
$spent = sql("$as SELECT apikey_create('spent', credits => 10)");
sub own { return "SELECT code FROM apikey_verify('$_[0]')" }
is_soon($_, qr/^valid$/, 'without the library') for calls('', own($used), own($spent));
($holder, $queue, $warm) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
$queue_pid = $queue->query_safe('SELECT pg_backend_pid()');
$_->query_safe('SET ROLE eve') for $holder, $queue;
sleep 1;
keep_from('pg_publication');
my @answers = calls($bounded, own($used), own($spent));
is_soon($answers[0], qr/^valid$/, 'pg_publication: one whose use is not written');
is_soon($answers[1], qr/^unavailable$/, 'pg_publication: one that cannot be spent');
let_go();
is_soon($_, qr/^valid$/, 'let go, all goes on') for calls('', own($used), own($spent));
$_->quit for $holder, $queue, $warm;
$node->stop;
done_testing();
