# Without the library preloaded nobody marks a dropped role's keys; should its
# number come again, they are not the new role's, and neither is what it was in
# a project.  A renamed role keeps both.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }

sql(q{CREATE ROLE anna; CREATE ROLE voucher; CREATE ROLE bert; CREATE EXTENSION apikey CASCADE;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme/pay', 'bert', 'admin'), apikey_member_add('acme/pay', 'voucher', 'admin'), apikey_member_add('acme/pay', 'anna', 'owner')});
my $key = sql(q{SET ROLE anna; SELECT apikey_create('one')});
my $berts = sql(q{SET ROLE bert; SELECT apikey_create('two', 'acme/pay')});
my $vouched = sql(q{SET ROLE bert; SELECT apikey_create('three', 'acme/pay')});
sql("SET ROLE voucher; SELECT apikey_transfer(apikey_id('$vouched'), 'bert')");
my ($anna, $voucher) = split /\|/, sql(q{SELECT 'anna'::regrole::oid, 'voucher'::regrole::oid});
my $ask = sub {
	my ($owner) = @_;
	return sql("SELECT code FROM apikey_verify('$key', owner => '$owner') UNION ALL SELECT code FROM apikey_verify('$berts', project => 'acme')"
		  . " UNION ALL SELECT code FROM apikey_verify('$vouched', project => 'acme')");
};
is($ask->('anna'), "valid\nvalid\nvalid", 'at first');

# A session that has nothing to do with the library drops two of them.
sql('DROP ROLE anna');
sql('DROP ROLE voucher');
sql('VACUUM pg_authid');
$node->stop;
$node->command_ok([ 'pg_resetwal', '-o', $anna, $node->data_dir ], 'the numbers come again');
$node->start;
sql("CREATE ROLE mallory$_") for 1 .. 2;
my %taken = map { split /\|/ } split /\n/, sql(q{SELECT oid, rolname FROM pg_roles WHERE rolname ~ '^mallory'});
ok(exists $taken{$anna} && exists $taken{$voucher}, 'as those of others') or diag explain [$anna, $voucher, \%taken];
is($ask->($taken{$anna}), "revoked\nvalid\nforbidden", 'who have neither the keys nor vouch for any');
is(sql("SET ROLE $taken{$anna}; SELECT count(*) FROM apikey_projects"), '0', 'nor what they were in a project');
is(sql("SET ROLE $taken{$anna}; SELECT count(*) FROM apikey_members"), '0', 'nor see its members');
is(sql("SET ROLE $taken{$anna}; SELECT count(*) FROM apikeys"), '0', 'nor see a key');
is(sql("SET ROLE $taken{$anna}; SELECT count(*) FROM apikey_events"), '0', 'nor an event of hers');
is(sql(q{SELECT status FROM apikeys WHERE name = 'one'}), 'revoked', 'the list says so');
sql("SET ROLE $taken{$anna}; SELECT apikey_create('its-own')");
is(sql(q{SELECT name FROM apikeys WHERE owner = 'anna'}), 'one', 'and whose it was, by her name');
is(sql("SELECT name FROM apikeys WHERE owner = '$taken{$anna}'"), 'its-own', 'not by that of the new role');
is(sql("SELECT owner FROM apikey_verify('$key', owner => '$taken{$anna}')"), 'anna', 'as verification says');
sql(q{UPDATE apikey_key SET description = 'noted' WHERE name = 'one'; SELECT apikey_revoke(id) FROM apikeys WHERE name = 'one'});
is(sql(q{SELECT owner FROM apikeys WHERE name = 'one'}), 'anna', 'whatever is written to it since');
sql("SELECT apikey_member_add('acme/pay', '$taken{$anna}', 'owner')");
is(sql("SET ROLE $taken{$anna}; SELECT role FROM apikey_projects"), 'owner', 'added itself, it is a member');

# A rename is another matter.
sql('ALTER ROLE bert RENAME TO bernard');
is(sql("SELECT code, role FROM apikey_verify('$berts', project => 'acme')"), 'valid|admin', 'a renamed role keeps its key and standing');
my $personal = sql(q{SET ROLE bernard; SELECT apikey_create('four')});
sql('ALTER ROLE bernard RENAME TO bernd');
is(sql("SELECT code FROM apikey_verify('$personal', owner => 'bernd')"), 'valid', 'a personal one too');
is(sql(q{SET ROLE bernd; SELECT string_agg(event, ' ' ORDER BY id) FROM apikey_events WHERE key_name = 'four'}), 'created', 'and reads its events');

# So it is where a dump is restored.  The events of dropped roles are nobody's
# there, whoever has their numbers, and whatever is changed of those.
sql(q{CREATE ROLE gone; SET ROLE gone; SELECT apikey_create('left')});
my $gone = sql(q{SELECT 'gone'::regrole::oid});
sql('DROP ROLE gone');
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", 'postgres' ], 'a dump');
$node->stop;
$node->command_ok([ 'pg_resetwal', '-o', $gone, $node->data_dir ], 'once more');
$node->start;
my @others = map { "other$_" } 1 .. 3;
sql("CREATE ROLE $_; ALTER ROLE $_ VALID UNTIL 'infinity'") for @others;
my ($heir) = grep { sql("SELECT '$_'::regrole::oid") eq $gone } @others;
ok($heir, 'another role has the number');
sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", $node->connstr('restored') ], 'restored');
is($node->safe_psql('restored', "SET ROLE $heir; SELECT count(*) FROM apikey_events"), '0', 'sees nothing of it');
is($node->safe_psql('restored', q{SELECT string_agg(event, ' ' ORDER BY id) FROM apikey_events WHERE key_name = 'left'}), 'created', 'superusers do');
is($node->safe_psql('restored', q{SET ROLE bernd; SELECT string_agg(event, ' ' ORDER BY id) FROM apikey_events WHERE key_name = 'four'}), 'created', 'who was renamed reads its own');

$node->stop;
done_testing();
