# What a transaction that is left open holds of the memory that all share: of
# slots that its spends may come back into, and of the lists of what is to be
# told.  And what is leased, which the worker alone can give back.  It is bounded,
# and nobody else's keys, charges and events wait for it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 400
apikey.flush_interval = '1h'
apikey.credits_lease = 1000
apikey.notify = on
max_prepared_transactions = 12
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE; CREATE ROLE bob; CREATE ROLE mallory; CREATE ROLE added; CREATE ROLE deleted; CREATE ROLE prepared;
	CREATE TABLE key (n serial, owner text, kind text, text text); GRANT ALL ON key, key_n_seq TO PUBLIC});
sub sql { my ($role, @sql) = @_; return $node->safe_psql('postgres', join ';', "SET ROLE $role", @sql) }
sub flush { $node->safe_psql('postgres', 'SELECT apikey_flush()') }
sub make_keys
{
	my ($owner, $kind, $count, $more) = @_;
	sql($owner, qq{INSERT INTO key (owner, kind, text)
		SELECT '$owner', '$kind', apikey_create('$owner-$kind-' || i, $more) FROM generate_series(1, $count) i});
}

# Verifies all keys of a role of a kind, in a transaction each or in one, and
# counts what is answered: "code|number".
my $all = q{SELECT code, count(*) FROM (SELECT text FROM key WHERE owner = '%s' AND kind = '%s' ORDER BY n) k, apikey_verify(k.text) v GROUP BY 1 ORDER BY 1};
sub each_alone
{
	my ($owner, $kind) = @_;
	my %count;
	for my $key (split /\n/, $node->safe_psql('postgres', "SELECT text FROM key WHERE owner = '$owner' AND kind = '$kind'"))
	{
		my $code;
		for (1 .. 20)
		{
			last if ($code = sql($owner, "SELECT code FROM apikey_verify('$key')")) ne 'unavailable';
		}
		$count{$code}++;
	}
	return join ' ', map { "$_|$count{$_}" } sort keys %count;
}
sub session
{
	my ($role) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("SET ROLE $role");
	return $session;
}
sub verify_all { my ($session, $owner, $kind) = @_; return join ' ', split /\n/, $session->query_safe(sprintf $all, $owner, $kind) }
sub left { return $node->safe_psql('postgres', q{SELECT min(credits), max(credits), sum(credits) FROM apikeys WHERE name LIKE 'mallory-credits-%'}) }

note 'Slots that spends may come back into.';
make_keys('mallory', 'credits', 600, 'credits => 1000');
make_keys('bob', 'rate', 80, "rate_limit => 1, rate_window => '1 day'");
make_keys('bob', 'credits', 10, 'credits => 1000');
my $open = session('mallory');
$open->query_safe('BEGIN');
my $verified = verify_all($open, 'mallory', 'credits');
like($verified, qr/^unavailable\|\d+ valid\|\d+$/, "one transaction passes as many keys as it may pin: $verified");
my ($pinned) = $verified =~ /valid\|(\d+)/;
cmp_ok($pinned, '>=', 40, 'that is an eighth of all at least, or nearly');
cmp_ok($pinned, '<', 100, 'and less than a fourth');
my $other = session('mallory');
$other->query_safe('BEGIN');
verify_all($other, 'mallory', 'credits');
is(join(' ', split /\n/, sql('bob', sprintf $all, 'bob', 'rate')), 'valid|80', 'rates of another role hold meanwhile');
is(join(' ', split /\n/, sql('bob', sprintf $all, 'bob', 'rate')), 'rate_limited|80', 'each');
is(each_alone('bob', 'credits'), 'valid|10', 'its credits are spent');
$open->query_safe('ROLLBACK');
$other->query_safe('ROLLBACK');
is(left(), '1000|1000|600000', 'what was rolled back has come back, all of it');

note 'Keys that somebody is handed, unasked.';
# mallory has a project, and hands keys there to bob.
sub hand_keys
{
	my ($kind, $count, $more) = @_;
	sql('mallory', qq{INSERT INTO key (owner, kind, text)
		SELECT 'handed', '$kind', apikey_create('handed-$kind-' || i, 'morg/p', $more) FROM generate_series(1, $count) i},
		"SELECT apikey_transfer(apikey_id(text), 'bob') FROM key WHERE owner = 'handed' AND kind = '$kind'");
}
$node->safe_psql('postgres', "SELECT apikey_grant('organizations', 'mallory')");
sql('mallory', "SELECT apikey_organization_create('morg')", "SELECT apikey_project_create('morg/p')", "SELECT apikey_member_add('morg/p', 'bob', 'developer')");
hand_keys('credits', 120, 'credits => 1000');
# Leases that are out are called back, and the worker has them soon.
for (1 .. 20)
{
	$open->query_safe('BEGIN');
	$verified = join ' ', split /\n/, $open->query_safe(q{SELECT code, count(*) FROM (SELECT text FROM key WHERE owner = 'handed' ORDER BY n) k, apikey_verify(k.text, project => 'morg') v GROUP BY 1 ORDER BY 1});
	last if $verified =~ /valid\|(?:[3-9]\d|1\d\d)/;
	$open->query_safe('ROLLBACK');
	flush();
}
like($verified, qr/^unavailable\|\d+ valid\|\d+$/, "one transaction passes as many as it may pin: $verified");
is(each_alone('bob', 'credits'), 'valid|10', 'keys of whom they were handed to pass meanwhile');
is(sql('bob', q{SELECT count(apikey_credits_add(apikey_id(text), 1)) FROM key WHERE owner = 'bob' AND kind = 'credits'}), '10', 'and are added to');
$open->query_safe('ROLLBACK');

note 'Savepoints, a commit, and what is prepared.';
$open->query_safe('BEGIN');
$open->query_safe('SAVEPOINT s');
$verified = verify_all($open, 'mallory', 'credits');
$open->query_safe('ROLLBACK TO s');
is(verify_all($open, 'mallory', 'credits'), $verified, 'with a savepoint goes what it has pinned');
$open->query_safe('COMMIT');
($pinned) = $verified =~ /valid\|(\d+)/;
is(left(), '999|1000|' . (600000 - $pinned), 'a commit spends what has passed');
$open->query_safe('BEGIN');
verify_all($open, 'mallory', 'credits');
$open->query_safe("PREPARE TRANSACTION 'p'");
like(verify_all($open, 'mallory', 'credits'), qr/valid\|/, 'what is prepared is final, and pins nothing');
flush();
$node->safe_psql('postgres', "ROLLBACK PREPARED 'p'");

note 'Rows of accounts that are locked, with a lease in memory.';
my @ids = split /\n/, $node->safe_psql('postgres', q{SELECT apikey_id(text) FROM key WHERE owner = 'mallory' AND kind = 'credits' ORDER BY n});
# So many leases are out as there is room for.
sub lease_all
{
	for (1 .. 8)
	{
		sql('mallory', map { "SELECT apikey_check(text) FROM key WHERE owner = 'mallory' AND kind = 'credits' AND n % 20 = $_" } 0 .. 19);
	}
}
my %change = (
	'added' => q{apikey_credits_add(i, 1)},
	'deleted' => q{apikey_delete(i, (SELECT name FROM apikeys WHERE apikeys.id = i))});
# Leases that are out are called back, and the worker has them soon, without a flush.
sub all_soon
{
	my ($owner, $kind) = @_;
	my $answers;
	for (1 .. 100)
	{
		$answers = sql($owner, sprintf $all, $owner, $kind);
		last if $answers !~ /unavailable/;
		usleep(50_000);
	}
	return $answers;
}
# Changes as many as can be; my.n says how many.
sub change_all
{
	my ($what, @of) = @_;
	return qq{DO \$\$ DECLARE i uuid; n int := 0; BEGIN
		FOREACH i IN ARRAY '{@{[join ',', @of]}}'::uuid[] LOOP
			BEGIN
				PERFORM $change{$what};
				n := n + 1;
			EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
			END;
		END LOOP;
		PERFORM set_config('my.n', n::text, false);
		END \$\$};
}
for my $what (sort keys %change)
{
	lease_all();
	my $before = $node->safe_psql('postgres', 'SELECT tracked_keys FROM apikey_stats');
	cmp_ok($before, '>', 200, "$before keys have their place");
	$open->query_safe('BEGIN');
	$open->query_safe(change_all($what, @ids));
	my $done = $open->query_safe("SELECT current_setting('my.n')");
	$what eq 'deleted' ? is($done, 600, 'all can be deleted') : cmp_ok($done, '<', 600, "not all can be added to at once, but $done");
	make_keys($what, 'rate', 60, "rate_limit => 1, rate_window => '1 hour'");
	unlike(all_soon($what, 'rate'), qr/unavailable/, "$what: another role has its share meanwhile");
	$open->query_safe('ROLLBACK');
	flush();
}
# The same of many that are prepared, one after the other.
lease_all();
my $held = 0;
for my $i (0 .. 9)
{
	$open->query_safe('BEGIN');
	$open->query_safe(change_all('added', @ids[ $i * 60 .. $i * 60 + 59 ]));
	$held += $open->query_safe("SELECT current_setting('my.n')");
	$open->query_safe("PREPARE TRANSACTION 'p$i'");
}
cmp_ok($held, '<', 600, "nor by transactions that are prepared, but $held");
make_keys('prepared', 'rate', 60, "rate_limit => 1, rate_window => '1 hour'");
unlike(all_soon('prepared', 'rate'), qr/unavailable/, 'another role has its share beside them');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'p$_'") for 0 .. 9;
flush();
$open->query_safe('BEGIN');
like(verify_all($open, 'mallory', 'credits'), qr/valid\|(?:[3-9]\d|1\d\d)/, 'and nothing stays pinned behind them');
$open->query_safe('ROLLBACK');
flush();
is($node->safe_psql('postgres', q{SELECT count(*) FROM apikeys WHERE name LIKE 'mallory-credits-%' AND credits > 1000 OR credits < 800}), '0', 'no credit came of it, nor was lost');
$_->quit for $open, $other;

$node->append_conf('postgresql.conf', 'apikey.max_tracked_keys = 1000');
$node->restart;

note 'Places for what is to be told of limits.';
my %id;
for my $role ('mallory', 'bob')
{
	make_keys($role, 'told', 1, 'credits => NULL');
	$id{$role} = $node->safe_psql('postgres', "SELECT apikey_id(text) FROM key WHERE owner = '$role' AND kind = 'told'");
	sql($role, "SELECT apikey_limit_set('tokens', 10, NULL, 'balance', key => '$id{$role}')");
}
make_keys('mallory', 'quota', 1, 'credits => NULL');
sql('mallory', q{SELECT apikey_limit_set('requests', 5, '1 day', 'quota', key => apikey_id(text)) FROM key WHERE owner = 'mallory' AND kind = 'quota'});
sub events { my ($event, $name) = @_; flush(); return $node->safe_psql('postgres', "SELECT count(*) FROM apikey_events e JOIN apikey_key k ON k.id = e.key_id WHERE event = '$event' AND k.name = '$name'") }
$open = session('mallory');
$open->query_safe('BEGIN');
# Charges until there is no place for what is dropped.
sub charge_all
{
	my ($of, $as) = @_;
	$open->query_safe(qq{DO \$\$ DECLARE n int := 0; BEGIN
		FOR i IN 1 .. 9000 LOOP
			BEGIN
				PERFORM apikey_charge('$of', '{"tokens": 500}', $as);
				n := n + 1;
			EXCEPTION WHEN object_not_in_prerequisite_state THEN EXIT WHEN SQLERRM LIKE 'too many events%';
			END;
		END LOOP;
		PERFORM set_config('my.n', n::text, false);
		END \$\$});
	return $open->query_safe("SELECT current_setting('my.n')");
}
my $charged = charge_all($id{mallory}, "owner => 'mallory'");
cmp_ok($charged, '<', 4000, "one role's open transactions keep no more than their share of places: $charged");
cmp_ok($charged, '>=', 1024, 'which is a large one');
sub charge_own
{
	my ($rc, $out, $err);
	for (1 .. 20)
	{
		($rc, $out, $err) = $node->psql('postgres', qq{SET ROLE bob; SELECT apikey_charge('$id{bob}', '{"tokens": 500}')});
		last if $err !~ /cannot charge/;
	}
	return $err;
}
is(charge_own(), '', 'another role charges its own key meanwhile');
is(events('overdrawn', 'bob-told-1'), 1, 'and what was dropped is told');
is(events('limit_exhausted', 'bob-told-1'), 1, 'so is that its limit is exhausted');

# So it does while keys that it was handed are charged, and such that are gone.
hand_keys('told', 1, 'credits => NULL');
my $handed = $node->safe_psql('postgres', q{SELECT apikey_id(text) FROM key WHERE owner = 'handed' AND kind = 'told'});
sql('mallory', q{SELECT apikey_limit_set('tokens', 10, NULL, 'balance', path => 'morg/p')});
for my $what ('handed', 'deleted')
{
	sql('mallory', "SELECT apikey_delete('$handed', 'handed-told-1')") if $what eq 'deleted';
	$open->query_safe('ROLLBACK');
	$open->query_safe('BEGIN');
	cmp_ok(charge_all($handed, "project => 'morg'"), '>=', 1024, "one that is $what is charged");
	is(charge_own(), '', 'and another role charges its own key');
	flush();
}
$open->query_safe('ROLLBACK');
$open->query_safe('BEGIN');
cmp_ok(charge_all($id{bob}, "owner => 'bob'"), '>=', 1024, "another's key is charged");
is(charge_own(), '', 'and so is it by whose it is');
$open->query_safe('ROLLBACK');
$open->query_safe('BEGIN');

# Its own are told later, and are not forgotten.
charge_all($id{mallory}, "owner => 'mallory'");
my $quota = $node->safe_psql('postgres', q{SELECT text FROM key WHERE owner = 'mallory' AND kind = 'quota'});
my %codes;
for (1 .. 50)
{
	$codes{sql('mallory', "SELECT code FROM apikey_verify('$quota')")}++;
	last if $codes{exhausted};
}
is($codes{valid}, 5, 'a quota of its own is used up');
is(events('limit_exhausted', 'mallory-quota-1'), 0, 'for which there is no room on the list');
$open->query_safe('ROLLBACK');
is(events('overdrawn', 'mallory-told-1'), 0, 'what was not charged is not told');
is(sql('mallory', "SELECT code FROM apikey_verify('$quota')"), 'exhausted', 'once there is');
is(events('limit_exhausted', 'mallory-quota-1'), 1, 'it is told');
$open->quit;

# Who has a key's text has it told low again and again: one place is enough for that.
$node->safe_psql('postgres', 'CREATE ROLE rita; CREATE ROLE carl');
make_keys('rita', 'again', 1, 'credits => NULL');
make_keys('rita', 'other', 1, 'credits => NULL');
my ($again, $again_id) = split /\|/, $node->safe_psql('postgres', q{SELECT text, apikey_id(text) FROM key WHERE owner = 'rita' AND kind = 'again'});
my ($unlike, $unlike_id) = split /\|/, $node->safe_psql('postgres', q{SELECT text, apikey_id(text) FROM key WHERE owner = 'rita' AND kind = 'other'});
sql('rita', "SELECT apikey_limit_set('requests', 100, '1 day', 'quota', key => '$again_id')",
	map { "SELECT apikey_limit_set('$_', 10, '1 day', 'quota', key => '$unlike_id')" } 'tokens', 'words');
my $spent = 0;
for (1 .. 20)
{
	$spent += sql('carl', "SELECT count(*) FROM generate_series(1, 85 - $spent) i, apikey_verify('$again' || repeat('', i), owner => 'rita') WHERE valid");
	last if $spent == 85;
}
is($spent, 85, 'a quota of which 15 are left');
flush();
my $given = $node->safe_psql('postgres', qq{SET ROLE carl;
	DO \$\$ DECLARE ok bool; n int := 0; BEGIN
		FOR i IN 1 .. 2000 LOOP
			SELECT valid INTO ok FROM apikey_verify('$again' || repeat('', i), owner => 'rita');
			COMMIT;
			IF ok THEN
				BEGIN
					PERFORM apikey_charge('$again_id', '{"requests": -1}', owner => 'rita');
					n := n + 1;
				EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
				END;
				COMMIT;
			END IF;
		END LOOP;
		PERFORM set_config('my.n', n::text, false);
		END \$\$;
	SELECT current_setting('my.n')});
cmp_ok($given, '>', 1400, "spent and given back: $given times");
my $refused;
for (1 .. 20)
{
	my ($rc, $out, $err) = $node->psql('postgres', qq{SET ROLE rita; SELECT apikey_charge('$unlike_id', '{"tokens": 1000}')});
	$refused = $err;
	last if $err !~ /cannot charge/;
}
is($refused, '', 'its maker charges another key meanwhile');
for (1 .. 20)
{
	last if sql('rita', qq{SELECT code FROM apikey_verify('$unlike', cost => 0, costs => '{"words": 10}')}) eq 'valid';
}
is(events('limit_low', 'rita-again-1'), 1, 'it is told once');
is(events('overdrawn', 'rita-other-1'), 1, 'what was dropped is told');
is($node->safe_psql('postgres', q{SELECT count(*) FROM apikey_events WHERE event = 'limit_exhausted' AND detail->>'unit' = 'words'}), 1, 'and so is another limit');

note 'Notices.';
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN apikey');
my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
my ($launcher) = grep { (eval { slurp_file("/proc/$_/status") } // '') =~ /^PPid:\s+$postmaster$/m && (eval { slurp_file("/proc/$_/cmdline") } // '') =~ /apikey launcher/ }
	map { /(\d+)$/ } glob '/proc/[0-9]*';
# No worker comes, and one that is there goes.
kill 'STOP', $launcher;
sleep 3;
sql('mallory', "SELECT count(apikey_create('flood-' || i)) FROM generate_series(1, 4500) i");
sql('bob', "SELECT apikey_create('heard')");
my $event = $node->safe_psql('postgres', q{SELECT e.id FROM apikey_events e JOIN apikey_key k ON k.id = e.key_id WHERE k.name = 'heard'});
sql('mallory', "SELECT apikey_create('again')");
kill 'CONT', $launcher;
my $heard = '';
for (1 .. 600)
{
	$heard .= $listener->query_safe('SELECT 1');
	last if $heard =~ /"event_id": $event\}/;
	usleep(100_000);
}
like($heard, qr/"event_id": $event\}/, 'who does little is heard beside who does more than can be told');
$listener->quit;
$node->stop;

note 'Slots with leases.';
$node = PostgreSQL::Test::Cluster->new('leases');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 40
apikey.flush_interval = '1h'
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE; CREATE ROLE greedy; CREATE ROLE bob; CREATE ROLE carol;
	CREATE TABLE key (n serial, owner text, kind text, text text); GRANT ALL ON key, key_n_seq TO PUBLIC});
make_keys('greedy', 'credits', 60, 'credits => 1000');
my @greedy = split /\n/, $node->safe_psql('postgres', q{SELECT text FROM key WHERE owner = 'greedy' ORDER BY n});
my $greedy_spent = 0;
# A transaction each, so that nothing stays pinned.
sub spend_greedily { $greedy_spent += grep { $_ eq 't' } split /\n/, sql('greedy', map { "SELECT apikey_check('$_')" } @greedy) }
spend_greedily() for 1 .. 2;
cmp_ok($greedy_spent, '>=', 40, "one role has leases: $greedy_spent spent");
is($node->safe_psql('postgres', 'SELECT tracked_keys FROM apikey_stats'), '40', 'and all of memory');
# Verifies with a new key with a limit; so often that the worker has come meanwhile.
my $made = 0;
sub limited
{
	my ($role, $times) = @_;
	my $code;
	$made++;
	sql($role, "INSERT INTO key (owner, kind, text) SELECT '$role', 'rate', apikey_create('$role-rate-$made', rate_limit => 1, rate_window => '31 days')");
	my $text = $node->safe_psql('postgres', "SELECT text FROM key WHERE owner = '$role' ORDER BY n DESC LIMIT 1");
	for (1 .. $times)
	{
		$code = sql($role, "SELECT code FROM apikey_verify('$text')");
		last if $code ne 'unavailable';
		usleep(50_000);
	}
	return $code;
}
is(join(' ', map { limited('bob', 1) } 1 .. 5), 'valid valid valid valid valid', 'another one has places at once');
# The rest of its share comes as fast as the worker gives back what is called back,
# though the first goes on asking.
my @codes = map { spend_greedily() if $_ % 3 == 0; limited('bob', 100) } 6 .. 12;
is(join(' ', @codes), join(' ', ('valid') x 7), 'and what there is of its share soon');
is(join(' ', map { spend_greedily(); limited('carol', 100) } 1 .. 6), 'valid valid valid valid valid valid', 'so has a third');
is(join(' ', split /\n/, sql('bob', sprintf $all, 'bob', 'rate')), 'rate_limited|12', 'and limits hold');
flush();
is($node->safe_psql('postgres', q{SELECT 60000 - sum(credits) FROM apikeys WHERE credits IS NOT NULL}), $greedy_spent, 'no credit is lost');
$node->stop;
done_testing();
