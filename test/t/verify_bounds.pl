# What a verification costs is bounded, whatever it is given: each argument at
# its greatest, by time and by the memory of the server process.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# Texts of 1 GB less a little take 20 s to make.
my $greatest = $ENV{APIKEY_TEST_LONG} ? 1024**3 - 100 : 200 * 1024**2;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'apikey'});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql('CREATE EXTENSION apikey CASCADE; CREATE ROLE anna');
sql(q{SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay')});
my %key = map { $_->[0] => sql("SELECT apikey_create('$_->[0]', $_->[1])") } (
	[ plain => q{scopes => '{read,a:*}'} ],
	[ project => q{project => 'acme/pay'} ],
	# the most that a key may have
	[ scopes => q{scopes => (SELECT array_agg(rpad('s' || i, 200, 'x')) FROM generate_series(1, 1000) i)} ],
	[ networks => q{allowed_ips => (SELECT array_agg(('2001:db8::' || to_hex(i))::cidr) FROM generate_series(1, 1000) i)} ],
	[ metadata => q{metadata => jsonb_build_object('x', repeat('x', 65000))} ],
	[ costs => q{scopes => '{read}'} ]);
sql("SELECT apikey_limit_set('u77777', 10, '1 day', 'rate', key => apikey_id('$key{costs}'))");
sql(qq{CREATE TABLE greatest (what text, as_text text, as_bytes bytea, as_array text[], as_costs jsonb);
	ALTER TABLE greatest ALTER as_text SET COMPRESSION pglz;
	INSERT INTO greatest (what, as_text) VALUES ('text', repeat('x', $greatest));
	INSERT INTO greatest (what, as_bytes) VALUES ('bytes', decode(repeat('00', $greatest / 4), 'hex'));
	INSERT INTO greatest (what, as_array) VALUES ('one scope', ARRAY[repeat('x', $greatest / 2)]);
	INSERT INTO greatest (what, as_array) VALUES ('long scopes', array_fill(repeat('x', $greatest / 2000), '{1000}'));
	INSERT INTO greatest (what, as_array) VALUES ('many scopes', array_fill('read'::text, '{1000000}'));
	INSERT INTO greatest (what, as_costs) SELECT 'costs', jsonb_object_agg('u' || i, 1) FROM generate_series(1, 500000) i;
	INSERT INTO greatest (what, as_costs) SELECT 'no costs', as_costs || '{"the longest": -1}' FROM greatest WHERE what = 'costs'});

# Runs a call in a session of its own, which has verified before; the second it
# took, the kilobytes by which its memory grew at most, and what it gave.
sub cost
{
	my ($call) = @_;
	my $session = $node->background_psql('postgres');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_safe("SELECT code FROM apikey_verify('$key{plain}', '{read}', client_addr => '10.0.0.1')");
	$session->query_safe("SELECT max(pg_column_size(g)) FROM greatest g");
	# The highest mark is from here on.
	open my $clear, '>', "/proc/$pid/clear_refs" or die $!;
	print $clear "5\n";
	close $clear;
	my $before = peak($pid);
	my $started = time;
	my $result = $session->query_safe($call);
	my $took = time - $started;
	my $grown = peak($pid) - $before;
	$session->quit;
	return ($took, $grown, $result);
}
sub peak { my ($pid) = @_; return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : die }
sub bounded
{
	my ($what, $call, $expected, $kilobytes) = @_;
	my ($took, $grown, $result) = cost($call);
	is($result, $expected, $what);
	cmp_ok($took, '<', 1, "$what: in time");
	cmp_ok($grown, '<', $kilobytes // 4096, "$what: in memory");
}

SKIP:
{
	skip 'no /proc', 1 if !-r "/proc/$$/status";
	my $of = sub { my ($column, $what) = @_; return "(SELECT $column FROM greatest WHERE what = '$what')" };
	my $text = $of->('as_text', 'text');
	bounded('a key', "SELECT code FROM apikey_verify($text)", 'malformed');
	bounded('a key to check', "SELECT apikey_check($text)", 'f');
	bounded('a handle', "SELECT code FROM apikey_verify_digest($text, sha256('x'))", 'malformed');
	bounded('a digest', "SELECT code FROM apikey_verify_digest(left('$key{plain}', -39), " . $of->('as_bytes', 'bytes') . ')', 'malformed');
	bounded('a project', "SELECT code FROM apikey_verify('$key{project}', project => $text)", 'wrong_project');
	bounded('a project to check', "SELECT apikey_check('$key{project}', NULL, $text)", 'f');
	bounded('to revoke', "SELECT apikey_self_revoke($text)", 'f');
	for my $scopes ('one scope', 'long scopes', 'many scopes')
	{
		bounded($scopes, "SELECT code, detail FROM apikey_verify('$key{plain}', " . $of->('as_array', $scopes) . ')',
			'insufficient_scope|{"missing_scopes": []}', $scopes eq 'many scopes' ? 16384 : 4096);
	}
	bounded('to ask for a scope', qq{BEGIN; SELECT apikey_authenticate('$key{plain}') \\g /dev/null
		SELECT apikey_has_scope($text); COMMIT}, 'f');
	# What may be wanted, of what may be granted: each the last, and none.
	bounded('the most scopes', "SELECT code FROM apikey_verify('$key{scopes}',
		(SELECT array_agg(rpad('s' || i, 200, 'x')) FROM generate_series(1, 1000) i))", 'valid', 16384);
	bounded('the most missing scopes', "SELECT code, jsonb_array_length(detail -> 'missing_scopes') FROM apikey_verify('$key{scopes}',
		(SELECT array_agg(rpad('t' || i, 200, U&'\\0001')) FROM generate_series(1, 1000) i))", 'insufficient_scope|1000', 32768);
	bounded('a scope too many', "SELECT code, detail FROM apikey_verify('$key{plain}', array_fill('read'::text, '{1001}'))",
		'insufficient_scope|{"missing_scopes": []}');
	bounded('as many as may be', "SELECT code FROM apikey_verify('$key{plain}', array_fill('read'::text, '{1000}'))", 'valid');
	bounded('a character too many', "SELECT code, detail FROM apikey_verify('$key{plain}', ARRAY['read', rpad('a:', 201, 'é'), 'b'])",
		'insufficient_scope|{"missing_scopes": ["b"]}');
	bounded('as many as may be', "SELECT code FROM apikey_verify('$key{plain}', ARRAY[rpad('a:', 200, 'é')])", 'valid');
	bounded('the most networks', "SELECT code FROM apikey_verify('$key{networks}', client_addr => '2001:db8::ffff')", 'ip_denied');
	bounded('the last of them', "SELECT code FROM apikey_verify('$key{networks}', client_addr => '2001:db8::3e8')", 'valid');
	bounded('the most metadata', "SELECT code, length(metadata::text) FROM apikey_verify('$key{metadata}')", 'valid|65009');
	bounded('an owner', "SELECT code FROM apikey_verify('$key{plain}', owner => '4294967295')", 'wrong_owner');
	# There may be any number of units: they take the memory that it takes to have them.
	my $costs = $of->('as_costs', 'costs');
	my $had = (cost("SELECT $costs ? 'none'"))[1];
	bounded('costs', "SELECT code, detail->'limits'->0->>'remaining' FROM apikey_verify('$key{costs}', costs => $costs)", 'valid|9', $had + 4096);
	bounded('a cost', "SELECT code FROM apikey_verify('$key{plain}', cost => 2147483647)", 'valid');

	# Again and again, nothing is left; nor is it where each is another text.
	my $session = $node->background_psql('postgres');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	my $many = sub {
		my ($call, $from) = @_;
		$session->query_safe("DO \$\$ DECLARE code text; BEGIN FOR i IN $from .. $from + 20000 LOOP code := (SELECT v.code FROM $call v); END LOOP; END \$\$");
	};
	for my $call ("apikey_verify('$key{scopes}', ARRAY['t' || i])", "apikey_verify('$key{networks}', client_addr => '10.0.0.1')",
		"apikey_verify('$key{plain}', client_addr => '10.0.0.1')", "apikey_verify(overlay('$key{plain}' placing lpad(i::text, 6, '0') from 10))",
		"apikey_verify_digest(left('$key{plain}', -39), sha256(i::text::bytea))")
	{
		$many->($call, 1);
		my $before = peak($pid);
		$many->($call, 50000);
		cmp_ok(peak($pid) - $before, '<', 1024, "$call: nothing is left");
	}
	$session->quit;
}

# It can be cancelled.
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query("SET statement_timeout = '100ms'");
$session->query("SELECT count(*) FROM generate_series(1, 1000000) i, apikey_verify('$key{scopes}', array_fill(rpad('s1000', 200, 'x') || repeat('', i), '{1000}'))");
like($session->{stderr}, qr/canceling statement due to statement timeout/, 'cancelled');
$session->{stderr} = '';
# Before the last of its units is looked at, which is none.
my $call = "SELECT code FROM apikey_verify('$key{plain}', costs => (SELECT as_costs FROM greatest WHERE what = 'no costs'))";
$session->query("SET statement_timeout = 0; $call");
like($session->{stderr}, qr/Costs are/, 'costs that are none');
$session->{stderr} = '';
$session->query("SET statement_timeout = '30ms'; $call");
like($session->{stderr}, qr/canceling statement due to statement timeout/, 'cancelled in its costs');
$session->{stderr} = '';
$session->quit;
$node->stop;
done_testing();
