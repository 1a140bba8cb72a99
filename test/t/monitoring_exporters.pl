# contrib/monitoring: both of Debian's exporters scrape a server and tell its
# numbers; the alerts are rules, and what they and the dashboard ask for is told.
use strict;
use warnings;
use lib 'test';
use Cwd qw(getcwd);
use Example;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $sql_exporter = find_program('prometheus-sql-exporter', 'prometheus-sql-exporter');
my $postgres_exporter = find_program('prometheus-postgres-exporter', 'prometheus-postgres-exporter');
my $promtool = find_program('promtool', 'prometheus');
my $contrib = 'contrib/monitoring';

command_ok([ $promtool, 'check', 'rules', "$contrib/alerts.yml" ], 'the alerts are rules');

my $server = PostgreSQL::Test::Cluster->new('main');
$server->init;
$server->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'");
$server->start;
$server->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE ROLE watch LOGIN IN ROLE pg_monitor;
	SELECT apikey_check(k) FROM apikey_create('two') k;
	SELECT apikey_check('nonsense');
	SELECT apikey_server_join(gen_random_uuid(), '{}', gen_random_uuid(), 'paris', 'subscriber', '0.2.0', 1, false);
	UPDATE apikey_server SET last_report_at = now() - interval '1 hour', lag = '7 seconds' WHERE name = 'paris'});

my ($host, $port) = ($server->host, $server->port);
my $dsn = "postgres://watch@/postgres?host=$host&port=$port&sslmode=disable";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $config = slurp_file("$contrib/sql_exporter.yml");
ok($config =~ s{- postgres://\S+}{- $dsn}, 'the connection is one line') or die;
append_to_file("$dir/sql_exporter.yml", $config);

# Asks until all numbers are told: the first exporter asks the database by itself,
# one query after the other.
sub scrape
{
	my ($program, @wanted) = @_;
	my $text = '';
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$text = request($program, 'GET', '/metrics')->{content};
		return $text unless grep { $text !~ /^$_\{/m } @wanted;
		usleep(100_000);
	}
	diag($text =~ s/^(#|go_|process_|promhttp_).*\n//mgr, $program->{output});
	return $text;
}

# Each listens at PORT.
my $by_sql = start_program($dir, 'sh', '-c', "exec $sql_exporter -config.file sql_exporter.yml -web.listen-address 127.0.0.1:\$PORT");
my $sql_text = scrape($by_sql, map { "sql_apikey_$_" } qw(verifications health pepper fleet server));
$ENV{DATA_SOURCE_NAME} = $dsn;
my $by_postgres = start_program(getcwd(), 'sh', '-c', "exec $postgres_exporter --extend.query-path $contrib/postgres_exporter.yml"
	  . " --disable-default-metrics --disable-settings-metrics --web.listen-address 127.0.0.1:\$PORT");
my $postgres_text = scrape($by_postgres, qw(apikey_health_severity apikey_verifications_verifications apikey_pepper_keys apikey_fleet_silent_seconds));

like($sql_text, qr/^sql_apikey_verifications\{[^}]*code="valid"[^}]*\} 1$/m, 'valid');
like($sql_text, qr/^sql_apikey_verifications\{[^}]*code="exhausted"[^}]*\} 0$/m, 'a zero');
like($sql_text, qr/^sql_apikey_health\{[^}]*name="preloaded"[^}]*\} 0$/m, 'apikey_health()');
like($sql_text, qr/^sql_apikey_pepper\{[^}]*fingerprint="00000000"[^}]*\} 1$/m, 'keys by pepper');
like($sql_text, qr/^sql_apikey_fleet\{[^}]*col="silent_seconds"[^}]*member="paris"[^}]*\} 3[67]\d\d/m, 'a server of which nothing is heard');
like($sql_text, qr/^sql_apikey_fleet\{[^}]*col="lag_seconds"[^}]*member="paris"[^}]*role="subscriber"[^}]*\} 7$/m, 'how far it was behind');
like($postgres_text, qr/^apikey_fleet_silent_seconds\{[^}]*member="paris"[^}]*\} 3[67]\d\d/m, 'the same by the other: a server of which nothing is heard');
like($postgres_text, qr/^apikey_fleet_lag_seconds\{[^}]*member="paris"[^}]*\} 7$/m, 'how far it was behind');
like($postgres_text, qr/^apikey_verifications_verifications\{code="valid"[^}]*\} 1$/m, 'the same by the other: valid');
like($postgres_text, qr/^apikey_verifications_verifications\{code="exhausted"[^}]*\} 0$/m, 'a zero');
like($postgres_text, qr/^apikey_health_severity\{name="preloaded"[^}]*\} 0$/m, 'apikey_health()');
like($postgres_text, qr/^apikey_pepper_keys\{[^}]*fingerprint="00000000"[^}]*\} 1$/m, 'keys by pepper');

# Each number that the alerts and the dashboard ask for is one of these.
my $dashboard = decode_json(slurp_file("$contrib/dashboard.json"));
my @asked = map { $_->{expr} } map { @{ $_->{targets} } } @{ $dashboard->{panels} };
cmp_ok(scalar @asked, '>=', 6, 'the dashboard asks');
my %name = map { $_ => 1 } join("\n", @asked, slurp_file("$contrib/alerts.yml")) =~ /\b((?:sql_)?apikey_(?!health\(\))\w+)/g;
for my $name (sort keys %name)
{
	next if $name =~ /^apikey_health/ && $name ne 'apikey_health_severity';	# in texts
	like($name =~ /^sql_/ ? $sql_text : $postgres_text, qr/^\Q$name\E\{|^\Q$name\E /m, "$name is told");
}

# Each alert names a heading of the runbooks.
my %anchor = map { (lc($_) =~ s/[^a-z0-9 _-]//gr =~ tr/ /-/r) => 1 } slurp_file('docs/operations.md') =~ /^#+ (.+)$/mg;
my @runbooks = slurp_file("$contrib/alerts.yml") =~ /runbook: docs\/operations\.md#(\S+)/g;
is(scalar @runbooks, scalar(() = slurp_file("$contrib/alerts.yml") =~ /- alert:/g), 'each alert has a runbook');
ok($anchor{$_}, "runbook $_") for @runbooks;
stop_program($_) for $by_sql, $by_postgres;
done_testing();
