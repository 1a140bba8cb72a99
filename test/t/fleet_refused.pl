# What the primary does not take of a member's report, for what one key has brought
# along, keeps nobody else's use from being told, nor a member from what it may spend.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Fleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $primary = PostgreSQL::Test::Cluster->new('primary');
# So that a role may have a name that is no UTF-8.
$primary->init(allows_streaming => 1, extra => [ '-E', 'LATIN1', '--locale=C' ]);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '300ms'
apikey.fleet_interval = '200ms'
apikey.fleet_timeout = '2s'
cluster_name = 'primary'
});
$primary->start;
sub sql { return $primary->safe_psql('postgres', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant('servers', 'fleet');
	CREATE ROLE anna; CREATE ROLE mallory});
sql(qq{SET client_encoding = latin1; CREATE ROLE "m\xfcller"});
sub make
{
	my ($role, $name) = @_;
	return (split /\n/, sql("SET ROLE $role; SELECT apikey_create('key-$name')"))[-1];
}
my %text = map { my ($role, $name) = split /-/; $name => make($role, $name) } qw(mallory-m anna-a anna-b anna-c anna-r anna-new);
my %id = map { $_ => sql("SELECT apikey_id('$text{$_}')") } keys %text;
sql("SELECT apikey_limit_set('calls', 1000, '1 second', 'rate', key => '$id{r}', shared => true)");
$primary->backup('backup');
my $standby = Fleet::member('standby', $primary, $primary);
ok($primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_servers WHERE role = 'standby'}), 'it has joined');
$primary->wait_for_catchup($standby);
my $joined = -s $standby->logfile;

sub on_standby { return $standby->safe_psql('postgres', @_) }
my %used;
sub use_key
{
	my ($role, $name) = @_;
	is(on_standby("SET ROLE $role; SELECT apikey_check('$text{$name}')"), 't', "$name is used");
	$used{$name}++;
}
sub arrives
{
	my ($name, $what) = @_;
	ok($primary->poll_query_until('postgres', "SELECT use_count = $used{$name} FROM apikeys WHERE id = '$id{$name}'"), $what);
}
sub not_attributed { return on_standby('SELECT not_attributed FROM apikey_stats') }
use_key('anna', $_), arrives($_, "and $_ is counted") for 'a', 'b';

# Whoever deletes a key of its own, and leaves that open, has its row.
my $open = $primary->background_psql('postgres');
$open->query_safe("SET ROLE mallory; BEGIN; SELECT apikey_delete('$id{m}', 'key-m')");
is(on_standby("SET ROLE mallory; SELECT apikey_check('$text{m}', scopes => '{x}')"), 'f', 'such a key is refused on the member');
use_key('anna', 'a');
arrives('a', 'others are counted meanwhile');
my $valid = 0;
for (1 .. 30)
{
	$valid += on_standby(qq{SET ROLE anna; SELECT code = 'valid' FROM apikey_verify('$text{r}', costs => '{"calls": 1}')}) eq 't';
	sleep 0.1;
}
cmp_ok($valid, '>=', 20, 'and what the servers share is handed out');
is(sql("SELECT denied_count FROM apikeys WHERE id = '$id{m}'"), 0, 'what is to be told of it waits');
$open->query_safe('ROLLBACK');
ok($primary->poll_query_until('postgres', "SELECT denied_count = 1 FROM apikeys WHERE id = '$id{m}'"), 'until its row is free');
ok($primary->poll_query_until('postgres', "SELECT sum(h.n::int) = 1 FROM apikey_usage_history, jsonb_each_text(denied) h(code, n) WHERE key_id = '$id{m}'"), 'so does its history');

# The same of a row of the history, one that another server just makes too.
$open->query_safe("RESET ROLE; BEGIN; SELECT FROM apikey_history WHERE key_id = '$id{a}' FOR UPDATE");
use_key('anna', $_) for 'a', 'b';
arrives('b', 'beside a row of the history that somebody has others are counted');
$open->query_safe('ROLLBACK');
arrives('a', 'and it is when that is free');
$open->query_safe(qq{SELECT apikey_server_join('a0000000-0000-4000-8000-000000000001', '{}', '10000000-0000-4000-8000-000000000001', 'other', 'standby', '0.2.0', system_identifier, false) FROM pg_control_system()});
$open->query_safe(qq{BEGIN; SELECT apikey_server_report('a0000000-0000-4000-8000-000000000001', 1, 1, NULL, '{}', '{}', '{}', '{}', '{}',
	'{$id{new}}', '{f}', '{expired}', '{1}', '{}', '{}', '{}', '{}', '{}')});
use_key('anna', $_) for 'new', 'b';
arrives('b', 'beside one that somebody makes as well');
$open->query_safe('COMMIT');
arrives('new', 'and it is when that is made');
$open->quit;
sql(q{SELECT apikey_server_forget('other')});

# More than is told at once.
my $most = 9007199254740992;
sql("SELECT apikey_limit_set('tokens', $most, '1 second', 'rate', key => '$id{m}')");
$primary->wait_for_catchup($standby);
is(on_standby(qq{SET ROLE mallory; SELECT code FROM apikey_verify('$text{m}', costs => '{"tokens": $most}'); SELECT apikey_charge('$id{m}', '{"tokens": $most}') IS NOT NULL}),
	"valid\nt", 'much is spent at once');
use_key('anna', 'a');
arrives('a', 'what others use is counted');
ok($primary->poll_query_until('postgres', "SELECT sum((spent->>'tokens')::numeric) = 2 * $most FROM apikey_usage_history WHERE key_id = '$id{m}'"), 'and all that was spent, in turns');

# A role of a name that is no UTF-8.
is(on_standby(qq{SET client_encoding = latin1; SET ROLE "m\xfcller"; SELECT apikey_check('$text{b}', owner => '"m\xfcller"')}), 'f', 'refused to a role of such a name');
ok($primary->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM apikey_events WHERE event = 'denied' AND key_id = '$id{b}' AND actor = 'm' || chr(252) || 'ller'}), 'the event has it');
use_key('anna', 'b');
arrives('b', 'and uses are counted');

unlike(slurp_file($standby->logfile, $joined), qr/cannot be reported|refuses a report/, 'the log tells of nothing');
is(not_attributed(), 0, 'all is told');

# What the primary refuses for one key's part, whatever that is: it is found, and
# waits or, where it is no report, is given up.
my $right = sql("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'apikey_server_report'");
sql($right =~ s/apikey_server_report/refused_report/r);
my $arguments = join ', ', map { "\$$_" } 1 .. 22;
sub refuse_with
{
	my ($code) = @_;
	sql($right =~ s/^\s*LANGUAGE c.*//msr . qq{
		LANGUAGE plpgsql AS \$body\$BEGIN
			IF '$id{c}' = ANY (keys) THEN RAISE EXCEPTION USING ERRCODE = '$code', MESSAGE = 'not this one'; END IF;
			RETURN public.refused_report($arguments);
		END\$body\$});
}
refuse_with('XX001');
use_key('anna', $_) for 'a', 'c', 'b', 'new';
arrives($_, "$_ is counted beside a key that fails by itself") for 'a', 'b', 'new';
is(sql("SELECT use_count FROM apikeys WHERE id = '$id{c}'"), 0, 'which waits');
sql($right);
arrives('c', 'until it does not');
refuse_with('22023');
use_key('anna', $_) for 'a', 'c', 'b', 'new';
arrives($_, "$_ is counted beside what is refused") for 'a', 'b', 'new';
ok($standby->poll_query_until('postgres', 'SELECT not_attributed = 1 FROM apikey_stats'), 'that alone is given up');
like(slurp_file($standby->logfile, $joined), qr/refuses a report.*\n.*Of key $id{c}: not this one/, 'as the log tells');
sql($right);
use_key('anna', 'a');
arrives('a', 'then all is as it was');
is(sql("SELECT use_count FROM apikeys WHERE id = '$id{c}'"), 1, 'and nothing is told twice');
$standby->stop;
$primary->stop;
done_testing();
