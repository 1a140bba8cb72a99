# Of a key that is rotated again and again no call costs more for how often that
# was: what is in its grace is near, and what has ended is not looked through.
# Told by the pages that a statement looks at, which PostgreSQL counts, and by the
# memory that a session takes.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $most = 100;
my ($few, $many) = (150, 1200);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
autovacuum = off
fsync = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', join(';', @_)) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE maker LOGIN;
	SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay');
	SELECT apikey_limit_set('words', 1000000, '1 day', 'quota', path => 'acme/pay');
	CREATE FUNCTION try(call text) RETURNS text LANGUAGE plpgsql AS
		$$BEGIN EXECUTE call; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END$$;
	CREATE FUNCTION rotate(key text, times int, grace interval) RETURNS text LANGUAGE plpgsql AS
		$$BEGIN FOR i IN 1 .. times LOOP key := apikey_rotate(apikey_id(key), grace); END LOOP; RETURN key; END$$});

# One line of the role that makes keys.
sub maker { return (split /\n/, sql('SET ROLE maker', @_))[-1] }
sub status { return sql("SELECT status FROM apikeys WHERE id = apikey_id('$_[0]')") }

# What is in its grace is near.
my $first = maker(q{SELECT apikey_create('near', credits => 1000)});
my $second = maker("SELECT apikey_rotate(apikey_id('$first'), '1 hour')");
my $last = maker("SELECT rotate('$second', $most - 1, '1 hour')");
is(status($first), 'retiring', "a key in its grace is replaced $most times");
my $again = "SELECT try(\$\$SELECT apikey_rotate(apikey_id('$last'), '1 hour')\$\$)";
is(maker($again), '55000', 'and not once more');
like(($node->psql('postgres', "SELECT apikey_rotate(apikey_id('$last'), '1 hour')"))[2],
	qr/last of $most rotations.*\nHINT:  Revoke that one, or rotate without a grace/, 'with what to do then');
is(status($last), 'active', 'which changes nothing');
is(maker("SELECT concat_ws(' ', code, credits) FROM apikey_verify('$first')"), 'valid 999', 'it verifies by the limits of the last');
is(maker("SELECT concat_ws(' ', code, credits) FROM apikey_verify('$last')"), 'valid 998', 'which are its own, too');
is(maker("BEGIN; SELECT apikey_revoke(apikey_id('$first')); $again; ROLLBACK"), 'done', 'once that is revoked it is');
is(maker("BEGIN; SELECT apikey_rotate(apikey_id('$last')); SELECT count(*) FROM apikeys WHERE name = 'near' AND status = 'revoked'; ROLLBACK"),
	$most + 1, 'without a grace it is at any time, and all that was replaced is revoked');
is(maker("BEGIN; SELECT apikey_disable(apikey_id('$last')); SELECT count(*) FROM apikeys WHERE name = 'near' AND status = 'disabled'; ROLLBACK"),
	$most + 1, 'all of it is disabled with the last');
sql("SELECT apikey_revoke(apikey_id('$last'))");
is(status($first), 'revoked', 'and revoked');

# Whatever has ended between.
$first = maker(q{SELECT apikey_create('between')});
$last = maker("SELECT apikey_rotate(apikey_id('$first'), '1 hour')");
for (2 .. $most)
{
	$last = maker("SELECT apikey_rotate(apikey_id('$last'), '1 s')");
}
sql('SELECT pg_sleep(1.1)');
is(sql(q{SELECT count(*) FROM apikeys WHERE name = 'between' AND status = 'expired'}), $most - 1, 'all that have been replaced since have ended');
is(maker("SELECT try(\$\$SELECT apikey_rotate(apikey_id('$last'), '1 hour')\$\$)"), '55000', 'it is not replaced once more either');
maker("SELECT apikey_revoke(apikey_id('$last'))");
is(status($first), 'revoked', 'it is revoked with the last');

# What was disabled with its successor, in its grace, ends with that.
$first = maker(q{SELECT apikey_create('off')});
$last = maker("SELECT apikey_rotate(apikey_id('$first'), '3 s')");
is(maker("SELECT apikey_disable(apikey_id('$last'))", "SELECT apikey_enable(apikey_id('$last'))",
		"SELECT string_agg(status, ' ' ORDER BY created_at) FROM apikeys WHERE name = 'off'"), 'disabled active',
	'what a key has replaced stays disabled when that is enabled');
$last = maker("SELECT rotate('$last', $most - 1, '1 hour')");
sql("SELECT pg_sleep_until(expires_at) FROM apikeys WHERE id = apikey_id('$first')");
is(maker("SELECT try(\$\$SELECT apikey_rotate(apikey_id('$last'), '1 hour')\$\$)"), 'done',
	'which keeps nobody from rotating once its grace is over');
is(status($first), 'disabled', 'while it is called that');

# How many pages a statement looks at, which is rolled back.
sub pages
{
	my ($statement, $role) = (@_, 'maker');
	my $plan = sql('BEGIN', "SET LOCAL ROLE $role", "EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) $statement", 'ROLLBACK');
	$plan =~ /Buffers: shared hit=(\d+)/ or die $plan;
	return $1;
}

# Chains of keys that have ended, and what is asked of their first and last.  What
# has ended may be called something else: disabled since, or not begun.
my %made = (
	revoked => sub { my ($key, $count) = @_; maker("SELECT rotate('$key', $count, '0')") },
	disabled => sub {
		my ($key, $count, $name) = @_;
		my $last = maker("SELECT rotate('$key', $count, '5 ms')");
		maker('SELECT pg_sleep(0.01)', "SELECT count(apikey_disable(id)) FROM apikeys WHERE name = '$name' AND status = 'expired'");
		return $last;
	},
	scheduled => sub {
		my ($key, $count, $name) = @_;
		maker("UPDATE apikeys SET starts_at = now() + interval '1 day' WHERE name = '$name'");
		return maker("SELECT rotate('$key', $count, '5 ms')");
	});
my %chain;
for my $kind (sort keys %made)
{
	for my $count ($few, $many)
	{
		my $name = "$kind-$count";
		my $key = maker("SELECT apikey_create('$name', rate_limit => 1000, credits => 1000000)");
		$chain{$kind}{$count} = [$key, $made{$kind}->($key, $count, $name)];
		# One that has ended before its rotation has is revoked.
		cmp_ok(sql("SELECT count(*) FROM apikeys WHERE name = '$name' AND status = '$kind' AND rotated_to IS NOT NULL"), '>', 0.8 * $count, "$count are $kind");
	}
}
my %call = (
	'to verify the first' => sub { "SELECT FROM apikey_verify('$_[0]')" },
	'to charge the first' => sub { "SELECT apikey_charge(apikey_id('$_[0]'), '{\"requests\": 1}')" },
	'to verify the last' => sub { "SELECT FROM apikey_verify('$_[1]')" },
	'to rotate the last' => sub { "SELECT apikey_rotate(apikey_id('$_[1]'))" },
	'to rotate the last with a grace' => sub { "SELECT apikey_rotate(apikey_id('$_[1]'), '1 hour')" },
	'to disable the last' => sub { "SELECT apikey_disable(apikey_id('$_[1]'))" },
	'to revoke the last' => sub { "SELECT apikey_revoke(apikey_id('$_[1]'))" },
	'to delete the last' => sub { "SELECT apikey_delete(apikey_id('$_[1]'), confirm_name => '$_[2]')" });
for my $kind (sort keys %made)
{
	for my $call (sort keys %call)
	{
		my ($short, $long);
		# The first also finds what is dead in indexes, and marks it.
		($short, $long) = map { pages($call{$call}->(@{ $chain{$kind}{$_} }, "$kind-$_")) } $few, $many for 1 .. 2;
		note("$kind, $call: $short, $long pages");
		cmp_ok($long, '<', 1.5 * $short + 20, "$call costs the same however often it was rotated: $kind");
	}
}

# A late charge spends of what does not go with the key.
my $worker = sql(q{SELECT apikey_create('late', project => 'acme/pay')});
sql("SELECT apikey_limit_set('words', 1000, '1 day', 'quota', key => apikey_id('$worker'))");
sql("SELECT rotate('$worker', $most + 1, '0')");
is(sql("SELECT apikey_charge(apikey_id('$worker'), '{\"words\": 400}', project => 'acme/pay')",
	q{SELECT string_agg(coalesce(path, 'key') || ' ' || remaining, ', ' ORDER BY path) FROM apikey_limits WHERE unit = 'words'}) =~ s/^\n//r,
	'acme/pay 999600, key 1000', 'a late charge of a key that has been replaced very often is its project\'s');

# To purge all of it costs no more for each: eight times as many, eight times as much.
my ($short, $long) = map {
	my $role = "purged_$_";
	sql("CREATE ROLE $role", "SET ROLE $role", "SELECT rotate(apikey_create('purged', credits => 1000000), $_, '0')");
	pages(q{SELECT apikey_purge('0')}, $role);
} $few, $many;
note("to purge: $short, $long pages");
cmp_ok($long, '<', 9 * $short, 'to purge keys of one chain costs in proportion to them');

# 0.1.0 kept nobody from rotating: its chains have no account of the rate.  Their
# first is in its grace, behind more keys that have ended.
sub old_chain
{
	my ($name, $count) = @_;
	my $key = maker("SELECT apikey_create('$name')");
	my $end = maker("SELECT rotate('$key', $count, '0')");
	sql("UPDATE apikey_key SET rate_account = NULL WHERE name = '$name'",
		"UPDATE apikey_key SET revoked_at = NULL, revoke_reason = NULL, expires_at = now() + interval '1 hour' WHERE id = apikey_id('$key')");
	return ($key, $end);
}
sub code { return maker("SELECT code FROM apikey_verify('$_[0]')") }
($first, $last) = old_chain('old', 300);
is(code($first), 'valid', 'a key of 0.1.0 is in its grace however often it was replaced');
is(maker('BEGIN', "SELECT try(\$\$SELECT apikey_rotate(apikey_id('$last'), '1 hour')\$\$)", 'ROLLBACK'), '55000', 'none is replaced in it once more');
for my $how (['SELECT apikey_rotate(apikey_id($1))', 'revoked'], ['SELECT apikey_disable(apikey_id($1))', 'disabled'],
	['SELECT apikey_revoke(apikey_id($1))', 'revoked'], [q{SELECT apikey_delete(apikey_id($1), 'old')}, 'revoked'])
{
	my ($call, $expected) = ($how->[0] =~ s/\$1/'$last'/r, $how->[1]);
	is(maker('BEGIN', $call, "SELECT status FROM apikeys WHERE id = apikey_id('$first')", 'ROLLBACK'), $expected, "it is $expected with the last: $how->[0]");
}
my ($farthest, $end) = old_chain('older', 1001);
is(code($farthest), 'unavailable', 'where it is too far away to be found, nothing is decided of it');
is(code($end), 'valid', 'but of the last');
like(slurp_file($node->logfile), qr/some API keys cannot be verified\n.*has been replaced too many times in its grace/, 'and the log says why');
my $charge = "SELECT try(\$\$SELECT apikey_charge(apikey_id('$farthest'), '{\"requests\": 1}')\$\$)";
is(maker($charge), '55000', 'nor is it charged');
maker("SELECT apikey_revoke(apikey_id('$end'))");
is(code($farthest), 'unavailable', 'that it is not revoked with the last gives it to nobody');
sql("UPDATE apikey_key SET expires_at = now() WHERE id = apikey_id('$farthest')");
is(code($farthest), 'expired', 'until it ends');
is(maker($charge), 'done', 'when a charge is of what it is bound by elsewhere');
# By hand one is brought that this version would not have left behind.
($first, $last) = old_chain('by-hand', $most + 1);
sql("UPDATE apikey_key SET rate_account = apikey_id('$first') WHERE id = apikey_id('$last')");
is(code($first), 'unavailable', 'no other is as far away');

# What is looked at takes no memory from one to the next.
SKIP:
{
	my $metadata = sql(q{SELECT jsonb_build_object('m', string_agg(md5(i::text), '')) FROM generate_series(1, 1900) i});
	my @big = map { maker("SELECT apikey_create('big-$_', metadata => '$metadata')") } 1, $most;
	my @ends = (maker("SELECT rotate('$big[0]', 1, '1 hour')"), maker("SELECT rotate('$big[1]', $most, '1 hour')"));
	my $session = $node->background_psql('postgres');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	skip 'no /proc', 2 if !-w "/proc/$pid/clear_refs";
	my $peak = sub { slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : die };
	# Shared memory counts once it has been looked at.
	my $look = q{SELECT sum(length(metadata::text)) FROM apikey_key WHERE name LIKE 'big-%'};
	for my $call (['verified', sub { "SELECT FROM apikey_verify('$big[$_[0]]', owner => 'maker')" }],
		['revoked', sub { "BEGIN; SELECT apikey_revoke(apikey_id('$ends[$_[0]]')); ROLLBACK" }])
	{
		$session->query_safe($_) for $look, $call->[1]->(0), $call->[1]->(1), $look;
		open my $clear, '>', "/proc/$pid/clear_refs" or die $!;
		print $clear "5\n";
		close $clear;
		my $before = $peak->();
		$session->query_safe($call->[1]->(1));
		my $grown = $peak->() - $before;
		note("$call->[0]: $grown kB");
		cmp_ok($grown, '<', 3000, "one of $most with 60 kB of metadata each is $call->[0] in little memory");
	}
	$session->quit;
}

$node->stop;
done_testing();
