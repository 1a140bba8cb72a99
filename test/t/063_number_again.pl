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
is(sql(q{SELECT status FROM apikeys WHERE name = 'one'}), 'revoked', 'the list says so');

# A rename is another matter.
sql('ALTER ROLE bert RENAME TO bernard');
is(sql("SELECT code, role FROM apikey_verify('$berts', project => 'acme')"), 'valid|admin', 'a renamed role keeps its key and standing');
my $personal = sql(q{SET ROLE bernard; SELECT apikey_create('four')});
sql('ALTER ROLE bernard RENAME TO bernd');
is(sql("SELECT code FROM apikey_verify('$personal', owner => 'bernd')"), 'valid', 'a personal one too');

$node->stop;
done_testing();
