# That a limit is low, or exhausted, is told once it can be: whoever has the limit
# meanwhile, whose account's row nobody waits for, keeps nobody from being told.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '300ms'
apikey.subject_setting = 'app.uid'
});
$node->start;
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE shop; CREATE ROLE fleet; SELECT apikey_grant('servers', 'fleet')});
sub create { my ($name) = @_; return sql("SET ROLE shop; SET app.uid = 'carl'; SELECT apikey_create('$name')") }
# A balance by a shop for its customer, who may say that servers share it, as before.
sub balance { my ($key, $unit) = @_; return sql("SET ROLE shop; SELECT apikey_limit_set('$unit', 100, NULL, 'balance', subject => 'carl')") }
sub spend { my ($key, $unit, $amount) = @_; return sql(qq{SET ROLE shop; SELECT code FROM apikey_verify('$key', cost => 0, costs => '{"$unit": $amount}')}) }
sub told { my ($limit) = @_; return sql("SELECT string_agg(event, ' ' ORDER BY id) FROM apikey_events WHERE event IN ('limit_low', 'limit_exhausted') AND detail->>'id' = '$limit'") }
sub flush { sql('SELECT apikey_flush()') }
# Somebody has begun to change a limit, until it is let go.
sub held
{
	my ($limit) = @_;
	my $session = $node->background_psql('postgres');
	$session->query_safe("SET ROLE shop; SET app.uid = 'carl'; BEGIN; UPDATE apikey_limits SET shared = true WHERE id = '$limit'");
	return $session;
}
sub let_go { my ($session) = @_; $session->query_safe('ROLLBACK'); $session->quit }
sub is_told { my ($limit, $what, $name) = @_; $node->poll_query_until('postgres', "SELECT string_agg(event, ' ' ORDER BY id) = '$what' FROM apikey_events WHERE event IN ('limit_low', 'limit_exhausted') AND detail->>'id' = '$limit'"); is(told($limit), $what, $name) }

my $key = create('key');
my $limit = balance($key, 'words');
is(spend($key, 'words', 10), 'valid', 'some of it');
my $customer = held($limit);
is(spend($key, 'words', 90), 'valid', 'the rest, which is leased');
is(spend($key, 'words', 1), 'exhausted', 'a refusal');
flush();
is(told($limit), '', 'nobody waits for who has it');
let_go($customer);
is_told($limit, 'limit_low limit_exhausted', 'it is told then, though nobody asks any more');
is(spend($key, 'words', 1), 'exhausted', 'another refusal');
flush();
is(told($limit), 'limit_low limit_exhausted', 'and once');

# So it is where what was wrong is over, and comes again.
$limit = balance($key, 'bytes');
is(spend($key, 'bytes', 10), 'valid', 'some of it');
$customer = held($limit);
is(spend($key, 'bytes', 90), 'valid', 'the rest');
flush();
let_go($customer);
sql("SELECT apikey_limit_add('$limit', 50)");
flush();
like(told($limit), qr/^(limit_low limit_exhausted)?$/, 'there is more before it is told, or after');
is(spend($key, 'bytes', 50), 'valid', 'which is spent');
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM apikey_events WHERE event = 'limit_exhausted' AND detail->>'id' = '$limit'"), 'it is told');

# An event that could not be written is told with the next refusal.
$limit = balance($key, 'pages');
sql("ALTER TABLE apikey_event ADD CONSTRAINT none CHECK (event NOT IN ('limit_low', 'limit_exhausted')) NOT VALID");
is(spend($key, 'pages', 100), 'valid', 'all of it');
flush();
sql('ALTER TABLE apikey_event DROP CONSTRAINT none');
is(told($limit), '', 'it cannot be told');
ok($node->log_contains(qr/WARNING: .*"none"/), 'which the log says');
is(spend($key, 'pages', 1), 'exhausted', 'a refusal');
is_told($limit, 'limit_low limit_exhausted', 'is told');

# Where there is no room for any, as on a disk that is full, what is found so again stands
# on the list once: of more than are told at once, nothing is looked at in a later step that
# has been told.
my @full = map { create("full$_") } 1 .. 4;
my $units = join ', ', map { qq{"u$_": 100} } 1 .. 8;
sql("SET ROLE shop; SET app.uid = 'carl'", map { my $of = $_; map { "SELECT apikey_limit_set('u$_', 100, NULL, 'balance', key => apikey_id('$of'))" } 1 .. 8 } @full);
sql(q{CREATE FUNCTION no_room(text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'there is no room' USING ERRCODE = 'disk_full'; END$$;
	ALTER TABLE apikey_event ADD CONSTRAINT room CHECK (event NOT IN ('limit_low', 'limit_exhausted') OR public.no_room(event)) NOT VALID});
for my $full (@full)
{
	my $code = '';
	for (1 .. 50)
	{
		last if ($code = sql(qq{SET ROLE shop; SELECT code FROM apikey_verify('$full', cost => 0, costs => '{$units}')})) ne 'unavailable';
	}
	is($code, 'valid', 'all of eight limits');
}
for (1 .. 3)
{
	flush();
	is(spend($full[0], 'u1', 1), 'exhausted', 'a refusal');
}
ok($node->log_contains(qr/ERROR: .*there is no room/), 'it cannot be told');
sql('ALTER TABLE apikey_event DROP CONSTRAINT room');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 64 FROM apikey_events WHERE event IN ('limit_low', 'limit_exhausted') AND key_name ~ '^full'}), 'all of it is told then');
flush();
is(sql("SELECT count(*) FROM apikey_credit WHERE xmin <> xmax AND id = (SELECT id FROM apikey_limits WHERE unit = 'u1' AND key_id = apikey_id('$full[0]'))"), 0, 'and nothing looked at again');

# Of more than are told at once, of which somebody has each, the others are told.
my @limits = map { balance($key, "unit$_") } 1 .. 4;
spend($key, "unit$_", 10) for 1 .. 4;
my @customers = map { held($_) } @limits[0 .. 2];
is(spend($key, "unit$_", 90), 'valid', "the rest of $_") for 1 .. 4;
is_told($limits[3], 'limit_low limit_exhausted', 'what nobody has is told');
is(told($limits[$_]), '', 'the others wait') for 0 .. 2;
let_go($_) for @customers;
is_told($limits[$_], 'limit_low limit_exhausted', 'and are told') for 0 .. 2;

# Whoever keeps the worker from the trail for a while has nothing lost of others' limits,
# though its own can be left for later.
sql('CREATE ROLE eve');
my $second = create('second');
my ($own, $over, @kept) = map { sql("SET ROLE shop; SET app.uid = 'carl'; SELECT apikey_limit_set('$_', 100, NULL, 'balance', key => apikey_id('$second'))") } 'own', 'over', map { "kept$_" } 1 .. 6;
is(spend($second, 'own', 10), 'valid', 'some of it');
$customer = held($own);
my ($holder, $queue) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
$_->query_safe('SET ROLE eve') for $holder, $queue;
$holder->query_safe('BEGIN');
$holder->query_safe('PREPARE held AS SELECT 1 FROM apikey_event');
$queue->query_until(qr/queued/, "\\echo queued\nCREATE RULE r AS ON UPDATE TO apikey_event DO ALSO NOTHING;\n");
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'apikey_event'::regclass AND NOT granted AND mode = 'AccessExclusiveLock'}), 'somebody waits for the trail');
is(spend($second, 'own', 90), 'valid', 'the rest');
is(spend($second, $_, 100), 'valid', "all of $_") for map { "kept$_" } 1 .. 6;
sql(qq{SET ROLE shop; SET app.uid = 'carl'; SELECT apikey_charge(apikey_id('$second'), '{"over": 130}')});
flush() for 1 .. 3;
$holder->query_safe('ROLLBACK');
let_go($customer);
$queue->query('SELECT 1');
$_->quit for $holder, $queue;
is_told($kept[$_], 'limit_low limit_exhausted', "kept $_ is told after that") for 0 .. 5;
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_events WHERE event = 'overdrawn' AND detail->>'dropped' = '30'}), 'and what was dropped');
is_told($own, 'limit_low limit_exhausted', 'and the other one');

# What a member reports.
my $server = '00000000-0000-4000-8000-0000000000a1';
my $token = '00000000-0000-4000-8000-000000000001';
$limit = balance($key, 'chars');
my $nothing = join ', ', ("'{}'") x 14;
my $system = sql('SELECT system_identifier FROM pg_control_system()');
my $epoch = (split /\|/, sql("SET ROLE fleet; SELECT known, epoch FROM apikey_server_join('$server', '{}', '$token', 'paris', 'standby', '0.2.0', $system, false)"))[1];
is(sql("SET ROLE fleet; SELECT granted FROM apikey_server_lease('$server', $epoch, '{$limit}', '{1}', '{0}', '{0}', '{100}', '{100}', '{f}')"), 100, 'a member has all of it');
$customer = held($limit);
is(sql("SET ROLE fleet; SELECT apikey_server_report('$server', $epoch, 1, NULL, $nothing, ARRAY['$limit'::uuid], '{exhausted}', ARRAY[apikey_id('$key')], '{0}')"), 't', 'and reports that it is spent');
flush();
is(told($limit), 'limit_low', 'which waits, too');
let_go($customer);
is_told($limit, 'limit_low limit_exhausted', 'and is told');
$node->stop;
done_testing();
