# What the worker tells of: refusals, keys that expire, notifications; and
# keys that move to the current pepper.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
my $peppers = PostgreSQL::Test::Utils::tempdir() . '/peppers';
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '100ms'
apikey.notify = on
apikey.pepper_file = ''
max_prepared_transactions = 2
autovacuum = off
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE; CREATE ROLE anna; CREATE ROLE bert');

sub sql { return $node->safe_psql('postgres', join ';', @_) }
sub create { my ($name, $more) = @_; return sql("SELECT apikey_create('$name'" . ($more ? ", $more" : '') . ')') }
sub comes { my ($query, $what) = @_; return ok($node->poll_query_until('postgres', $query), $what) }
sub events { my ($name, $event) = @_; return "FROM apikey_events WHERE key_name = '$name' AND event = '$event'" }

# Refusals of a matched key: an event at once, with their count, then none for
# a minute; whatever became of the transaction.
my $one = create('one', "scopes => '{a}'");
my $owner = sql('SELECT current_user');
sql('BEGIN', 'SET LOCAL ROLE anna', "SELECT code FROM apikey_verify('$one', scopes => '{b}', client_addr => '192.0.2.7', owner => '$owner')", 'ROLLBACK');
comes('SELECT count(*) = 1 ' . events('one', 'denied'), 'a refusal is told');
is(sql('SELECT actor, client_addr, detail ' . events('one', 'denied')),
	'anna|192.0.2.7|{"code": "insufficient_scope", "count": 1}', 'by whom, from where, why, how often');
sql("SELECT code FROM apikey_verify('$one', scopes => '{b}')") for 1 .. 3;
sql("SELECT code FROM apikey_verify_digest(left('$one', -39), sha256('wrong'))", "SELECT code FROM apikey_verify('nonsense')");
comes(q{SELECT denied_count = 4 FROM apikeys WHERE name = 'one'}, 'all are counted');
comes(q{SELECT bool_and(u.denied_count = 4) FROM apikey_usage u JOIN apikey_key USING (id) WHERE name = 'one'}, 'flushed');
is(sql('SELECT count(*) ' . events('one', 'denied')), 1, 'a minute has not gone');
is(sql("SELECT count(*) FROM apikey_events WHERE event = 'denied'"), 1, 'of a wrong secret nothing is told');
# What is not told yet is kept over a restart, and so is when it was.
$node->restart;
sql('SELECT 1');
comes('SELECT last_flush_at IS NOT NULL OR tracked_keys = 1 FROM apikey_stats', 'up again');
is(sql('SELECT count(*) ' . events('one', 'denied')), 1, 'still not');

# Who asked is the application's user too, where there are such.
{
	my $wanted = create('wanted', "scopes => '{a}', subject => 'carl'");
	my $other = create('other', "scopes => '{a}'");
	sql(q{ALTER SYSTEM SET apikey.subject_setting = 'app.caller'}, 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres', q{SELECT current_setting('apikey.subject_setting') = 'app.caller'});
	my $refused = sub { my ($key, $user) = @_; sql("SET app.caller = '$user'", "SELECT code FROM apikey_verify('$key', scopes => '{b}', owner => '$owner')") };
	$refused->($wanted, 'mallory');
	comes('SELECT count(*) = 1 ' . events('wanted', 'denied'), 'told');
	is(sql("SELECT actor_subject, key_subject " . events('wanted', 'denied')), 'mallory|carl', 'who asked for whose key');
	$refused->($other, '');
	comes('SELECT count(*) = 1 ' . events('other', 'denied'), 'told');
	is(sql("SELECT actor_subject IS NULL " . events('other', 'denied')), 't', 'nobody');
	sql('ALTER SYSTEM RESET apikey.subject_setting', 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres', q{SELECT current_setting('apikey.subject_setting') = ''});
}

# A key that will expire is told of once, when its time is near; again when it
# has been given another.
my $far = create('far', "expires_at => now() + interval '30 days'");
my $near = create('near', "expires_at => now() + interval '6 days'");
comes('SELECT count(*) = 1 ' . events('near', 'expiring'), 'told ahead');
is(sql("SELECT (e.detail ->> 'expires_at')::timestamptz = k.expires_at FROM apikey_events e JOIN apikeys k ON k.id = e.key_id WHERE event = 'expiring'"), 't', 'of what');
sql("UPDATE apikeys SET description = 'changed' WHERE name = 'near'");
sql("UPDATE apikeys SET expires_at = now() + interval '5 days' WHERE name = 'far'");
comes('SELECT count(*) = 1 ' . events('far', 'expiring'), 'one that was brought near');
is(sql('SELECT count(*) ' . events('near', 'expiring')), 1, 'once');
sql("UPDATE apikeys SET expires_at = expires_at - interval '1 hour' WHERE name = 'near'");
comes('SELECT count(*) = 2 ' . events('near', 'expiring'), 'another time');
my $later = create('later', "expires_at => now() + interval '20 days'");
my $revoked = create('revoked', "expires_at => now() + interval '21 days'");
sql("SELECT apikey_revoke(apikey_id('$revoked'))");
sql(q{ALTER SYSTEM SET apikey.expiry_notice = '25d'}, 'SELECT pg_reload_conf()');
comes('SELECT count(*) = 1 ' . events('later', 'expiring'), 'the notice was made longer');
is(sql('SELECT count(*) ' . events('revoked', 'expiring')), 0, 'not of a revoked key');
# Without a use of any key, after a start.
$node->stop;
my $quiet = $node->start;
comes('SELECT count(*) = 1 ' . events('later', 'expiring'), 'once over a restart');

# Notifications follow the commit: of what is committed, and of nothing else.
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN apikey');
# Events as they are told; others than those of a test may come in between.
sub told
{
	my ($which) = @_;
	return map { s/ : /: /gr =~ s/\{\s*/{/gr } split /\n/,
	  sql("SELECT json_build_object('event', event, 'at', at, 'event_id', id) FROM apikey_events WHERE $which ORDER BY id");
}
sub heard
{
	my @expected = @_;
	my (%expected, %found, @heard);
	@expected{@expected} = ();
	for (1 .. 600)
	{
		push @heard, $listener->query_safe('SELECT') =~ /"apikey" with payload "(\{.*?\})" received/g;
		@found{@heard} = ();
		last if !grep { !exists $found{$_} } @expected;
		select undef, undef, undef, 0.05;
	}
	is_deeply([ grep { exists $expected{$_} } @heard ], \@expected, 'each is told once, in their order') or diag(join "\n", @heard);
	return @heard;
}
sql('BEGIN', "SELECT apikey_create('gone-1')", 'ROLLBACK');
sql('BEGIN', "SELECT apikey_create('heard')", 'SAVEPOINT a', "SELECT apikey_create('gone-2')", 'ROLLBACK TO a',
	'SAVEPOINT b', "SELECT apikey_create('heard-2')", 'RELEASE b', 'COMMIT');
sql("SELECT apikey_revoke(id, 'a secret reason') FROM apikeys WHERE name = 'heard'");
my @expected = told(q{key_name IN ('heard', 'heard-2')});
is(scalar(@expected), 3, 'three events');
my @heard = heard(@expected);
my %committed = map { $_ => 1 } told('true');
is(scalar(grep { !$committed{$_} } @heard), 0, 'none that was not committed');
unlike("@heard", qr/secret|heard/, 'nothing but which event');
sql('SET apikey.notify = off', "SELECT apikey_create('unheard')");
sql("SELECT apikey_create('heard-3')");
@heard = heard(told(q{key_name = 'heard-3'}));
my ($unheard) = told(q{key_name = 'unheard'});
is(scalar(grep { $_ eq $unheard } @heard), 0, 'off for one session');
# None is lost between a worker that goes and the next one.
sql(q{DO $$ BEGIN FOR i IN 1..1500 LOOP
	PERFORM apikey_create('stream-' || i);
	COMMIT;
	PERFORM pg_sleep(0.001);
END LOOP; END $$});
heard(told(q{key_name LIKE 'stream-%'}));
$listener->quit;

# Keys move to the current pepper, each after a verification.
my $before = create('before');
append_to_file($peppers, ('p' x 40) . "\n");
chmod 0600, $peppers;
$node->append_conf('postgresql.conf', "apikey.pepper_file = '$peppers'");
$node->reload;
comes(q{SELECT current_setting('apikey.pepper_file') <> ''}, 'a pepper');
my $after = create('after');
is(sql(q{SELECT count(*), sum(v::int) > 3, min(v) FROM apikey_stats, jsonb_each_text(peppers) p (f, v)}), '2|t|1', 'keys by pepper');
is(sql("SELECT code FROM apikey_verify('$before')"), 'valid', 'made before there was one');
comes('SELECT count(*) = 1 ' . events('before', 'rehashed'), 'moved');
is(sql("SELECT code FROM apikey_verify('$before')", "SELECT code FROM apikey_verify('$after')"), "valid\nvalid", 'both verify');
is(sql(qq{SELECT digest = hmac(digest('$before', 'sha256'), repeat('p', 40)::bytea, 'sha256')
	FROM apikey_digest WHERE id = apikey_id('$before')}), 't', 'as pgcrypto has it');
is(sql('SELECT max(v::int) > 3, array_agg(v ORDER BY v::int) @> ARRAY[$$2$$] FROM apikey_stats, jsonb_each_text(peppers) p (f, v)'), 't|t', 'one more');

# Events are kept for ever, or as long as a superuser says; the worker removes
# the others, a hundred at a time.
sql(q{UPDATE apikey_event SET at = at - interval '2 days' WHERE key_name LIKE 'stream-%' OR id < (SELECT min(id) FROM apikey_event WHERE key_name LIKE 'stream-%')});
my $old = sql(q{SELECT count(*) > 1500 FROM apikey_events WHERE at < now() - interval '1 day'});
is($old, 't', 'more than a thousand are old');
my $young = sql(q{SELECT count(*) FROM apikey_events WHERE at >= now() - interval '1 day'});
is($node->psql('postgres', q{SET ROLE anna; SET apikey.event_retention = '1s'}), 3, 'not for everybody to say');
sql(q{ALTER SYSTEM SET apikey.event_retention = '1d'}, 'SELECT pg_reload_conf()');
sql("SELECT code FROM apikey_verify('$before')");
comes(q{SELECT count(*) = 0 FROM apikey_events WHERE at < now() - interval '1 day'}, 'the old ones go');
ok(sql(q{SELECT count(*) FROM apikey_events}) >= $young, 'the others stay');
# What an older snapshot shows still is read once in a round of the worker, not at
# each of its steps; an event that somebody has is not waited for.
{
	my $old_events = q{FROM apikey_event WHERE at < now() - interval '1 day'};
	sql('ALTER SYSTEM SET apikey.event_retention = 0', q{ALTER SYSTEM SET apikey.flush_interval = '1h'}, 'SELECT pg_reload_conf()', 'SELECT apikey_flush()');
	sql(q{INSERT INTO apikey_event (id, at, event, actor) OVERRIDING SYSTEM VALUE SELECT i - 10000, now() - interval '2 days', 'created', 'old' FROM generate_series(1, 5000) i});
	my $reader = $node->background_psql('postgres');
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$reader->query_safe("SELECT count(*) $old_events");
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('BEGIN');
	$holder->query_safe('SELECT id FROM apikey_event WHERE id = -5500 FOR UPDATE');
	my $read = q{SELECT coalesce(idx_tup_read, 0) FROM pg_stat_user_indexes WHERE indexrelname = 'apikey_event_pkey'};
	my $before = sql($read);
	my $log = -s $node->logfile;
	sql(q{ALTER SYSTEM SET apikey.event_retention = '1d'}, 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres', q{SELECT current_setting('apikey.event_retention') <> '0'});
	sql('SELECT apikey_flush()');
	is(sql("SELECT count(*) FILTER (WHERE id < -5500), count(*) $old_events"), '0|501', 'all before the one that somebody has');
	unlike(slurp_file($node->logfile, $log), qr/could not change table/, 'which is not waited for');
	$holder->query_safe('ROLLBACK');
	sql('SELECT apikey_flush()');
	is(sql("SELECT count(*) $old_events"), '0', 'then the others');
	comes("SELECT ($read) - $before >= 10000", 'told by the statistics');
	cmp_ok(sql($read) - $before, '<', 24000, 'each is read by its removal, and once a round');
	$_->quit for $reader, $holder;
}
# A step is told to have begun when it did, however long its worker has been there.
sql(q{CREATE TABLE removed (began timestamptz)}, q{CREATE FUNCTION note_removed() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO public.removed VALUES (now()); RETURN OLD; END $$},
	q{CREATE TRIGGER note_removed AFTER DELETE ON apikey_event FOR EACH ROW EXECUTE FUNCTION note_removed()},
	q{ALTER TABLE apikey_event ENABLE ALWAYS TRIGGER note_removed});
for my $id (1 .. 3)
{
	sql("INSERT INTO apikey_event (id, at, event, actor) OVERRIDING SYSTEM VALUE SELECT -$id, now() - interval '2 days', 'created', 'old'", 'SELECT apikey_flush()', 'SELECT pg_sleep(0.5)');
}
is(sql(q{SELECT count(*), count(DISTINCT began) FROM removed}), '3|3', 'when a step began');
# Many that end at once, or one after the other, in steps.
sql(q{SELECT count(apikey_create('many-' || i, expires_at => CASE WHEN i % 2 = 0 THEN date_trunc('hour', now()) ELSE now() END + interval '1 day')) FROM generate_series(1, 5000) i}, 'SELECT apikey_flush()');
my $many = q{SELECT count(*) = %d AND count(DISTINCT key_id) = 5000 FROM apikey_events WHERE event = 'expiring' AND key_name LIKE 'many-%%'};
comes(sprintf($many, 5000), 'many at once');
sql(q{UPDATE apikeys SET expires_at = expires_at - interval '1 hour' WHERE name IN ('many-1', 'many-2', 'many-4999', 'many-5000')}, 'SELECT apikey_flush()');
comes(sprintf($many, 5004), 'some of them another time');
$node->stop;
done_testing();
