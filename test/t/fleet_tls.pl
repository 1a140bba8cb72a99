# A member reaches its primary by TLS, as docs/scale.md has it: with a certificate,
# or with a password.  With the wrong authority, or another's certificate, it does
# not, and says so.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
listen_addresses = '127.0.0.1'
autovacuum = off
apikey.flush_interval = '300ms'
apikey.fleet_heartbeat = '200ms'
});
# Before anybody can connect by TCP.
unlink $primary->data_dir . '/pg_hba.conf';
$primary->append_conf('pg_hba.conf', "local all all trust\nlocal replication all trust");
$primary->start;
sub sql { return $primary->safe_psql('postgres', @_) }
plan skip_all => 'this server was built without OpenSSL' if sql('SHOW ssl_library') ne 'OpenSSL';

# Two authorities of our own, and what the first has signed.
my $dir = PostgreSQL::Test::Utils::tempdir();
my @new = qw(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes);
sub openssl { run_log(['openssl', @_]) or die "openssl failed: @_" }
openssl('req', '-x509', @new, '-subj', "/CN=$_", '-days', 2, '-keyout', "$dir/$_.key", '-out', "$dir/$_.crt") for 'authority', 'stranger';
append_to_file("$dir/names", "subjectAltName = DNS:localhost\n");
for my $name ('localhost', 'fleet', 'other')
{
	openssl('req', '-new', @new, '-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
	openssl('x509', '-req', '-in', "$dir/$name.csr", '-out', "$dir/$name.crt", '-days', 2, '-CA', "$dir/authority.crt",
		'-CAkey', "$dir/authority.key", '-CAcreateserial', '-extfile', "$dir/names");
}
append_to_file("$dir/pgpass", "localhost:*:*:by_password:s3cr3t-word\n");
chmod 0600, "$dir/pgpass", glob "$dir/*.key";

sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; CREATE ROLE by_password LOGIN PASSWORD 's3cr3t-word';
	SELECT apikey_grant('servers', 'fleet'), apikey_grant('servers', 'by_password')});
my $key = sql(q{SELECT apikey_create('one', credits => 1000000)});
$primary->append_conf('postgresql.conf', qq{
ssl = on
ssl_ca_file = '$dir/authority.crt'
ssl_cert_file = '$dir/localhost.crt'
ssl_key_file = '$dir/localhost.key'
});
$primary->append_conf('pg_hba.conf', q{
hostssl postgres fleet 127.0.0.1/32 cert
hostssl postgres by_password 127.0.0.1/32 scram-sha-256
});
$primary->reload;
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'apikey.fleet = on');

# Starts it with these parameters; returns where its log begins.
sub start_with
{
	my ($user, $authority, $more) = @_;
	$standby->stop if $standby->{_pid};
	my $from = -s $standby->logfile // 0;
	$standby->append_conf('postgresql.conf',
		"apikey.primary_conninfo = 'host=localhost hostaddr=127.0.0.1 port=@{[$primary->port]} user=$user dbname=postgres sslmode=verify-full sslrootcert=$dir/$authority.crt $more'");
	$standby->start;
	return $from;
}
sub certificate { my ($name) = @_; return "sslcert=$dir/$name.crt sslkey=$dir/$name.key" }
sub servers { return sql(q{SELECT count(*) FROM apikey_servers WHERE name = 'standby'}) }
my $verify = "SELECT code FROM apikey_verify('$key')";

my %refused = (
	"an authority that has not signed the primary's certificate" =>
		['certificate verify failed', 'fleet', 'stranger', certificate('fleet')],
	'a certificate of another name' =>
		['certificate authentication failed for user "fleet"', 'fleet', 'authority', certificate('other')],
	'no certificate' => ['connection requires a valid client certificate', 'fleet', 'authority', 'sslcert=/nonexistent']);
for my $what (sort keys %refused)
{
	my ($reason, @with) = @{ $refused{$what} };
	my $from = start_with(@with);
	$standby->wait_for_log(qr/API keys of database "postgres" cannot be reported to the primary\n.*DETAIL:  .*\Q$reason\E/, $from);
	is($standby->safe_psql('postgres', $verify), 'unavailable', "$what: no lease");
	is($standby->safe_psql('postgres', q{SELECT severity, value FROM apikey_health() WHERE name = 'servers'}),
		'warning|this server does not reach the primary', "$what: apikey_health() says so");
	is(servers(), 0, "$what: the primary knows nothing of it");
}

my $used = 0;
for my $how (['fleet', certificate('fleet')], ['by_password', "passfile=$dir/pgpass"])
{
	my ($user, $more) = @$how;
	my $from = start_with($user, 'authority', $more);
	$standby->wait_for_log(qr/API keys of database "postgres" is reported to the primary/, $from);
	ok($standby->poll_query_until('postgres', $verify, 'valid'), "$user: it gets a lease");
	$used++;
	ok($primary->poll_query_until('postgres', "SELECT use_count = $used FROM apikeys"), "$user: and reports the use");
	is(servers(), 1, "$user: the primary knows it");
	is(sql(q{SELECT DISTINCT usename, ssl, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'apikey_fleet'}),
		$user eq 'fleet' ? 'fleet|t|/CN=fleet' : 'by_password|t|', "$user: it comes by TLS alone");
}
$standby->stop;
unlike(slurp_file($standby->logfile), qr/s3cr3t|PRIVATE KEY|sslkey|passfile|\Q$dir\E/, "nothing of the connection's parameters is in its log");
$primary->stop;
done_testing();
