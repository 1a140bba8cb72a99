# What a logical subscriber holds already, or does not, neither stops a
# subscription nor makes a revoked key valid: text and binary, all tables
# published, with keys in use on the subscriber.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = 100
wal_retrieve_retry_interval = 100ms
});
$subscriber->start;
$publisher->safe_psql('postgres', 'CREATE ROLE anna; CREATE ROLE bert');
$subscriber->safe_psql('postgres', 'CREATE ROLE eva; CREATE ROLE anna; CREATE ROLE bert');
$publisher->safe_psql('postgres', 'CREATE ROLE elsewhere');

my $slot;
sub publish { return $publisher->safe_psql($slot, @_) }
sub there { return $subscriber->safe_psql($slot, @_) }
sub create { my ($node, $role, $name, $more) = @_; return $node->safe_psql($slot, "SET ROLE $role; SELECT apikey_create('$name'" . ($more // '') . ')') }

# The answers of a warm session, once all that was published has been applied.
my $session;

sub answers
{
	my ($owner, @keys) = @_;
	$publisher->wait_for_catchup($slot);
	return $session->query_safe(join ' UNION ALL ',
		map { "(SELECT concat_ws(' ', code, owner) FROM apikey_verify('$_', owner => '$owner'))" } @keys);
}

for my $mode ('text', 'binary')
{
	$slot = "in_$mode";
	$_->safe_psql('postgres', "CREATE DATABASE $slot") for $publisher, $subscriber;
	$_->safe_psql($slot, 'CREATE EXTENSION apikey CASCADE') for $publisher, $subscriber;
	publish('CREATE PUBLICATION everything FOR ALL TABLES');
	my $conninfo = $publisher->connstr . " dbname=$slot";
	my $early = create($publisher, 'anna', 'early');
	# Here before anything arrives: a key of a name that will, and a place.
	my $local = create($subscriber, 'anna', 'early');
	there(q{SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay')});
	publish(q{SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay');
		SELECT apikey_member_add('acme/pay', 'anna', 'admin')});
	there("CREATE SUBSCRIPTION $slot CONNECTION '$conninfo' PUBLICATION everything");
	$subscriber->wait_for_subscription_sync($publisher, $slot, $slot);
	if ($mode eq 'binary')
	{
		there("ALTER SUBSCRIPTION $slot DISABLE");
		ok($subscriber->poll_query_until($slot, "SELECT count(*) = 0 FROM pg_stat_subscription WHERE pid IS NOT NULL AND subname = '$slot'"), 'stopped');
		there("ALTER SUBSCRIPTION $slot SET (binary = true); ALTER SUBSCRIPTION $slot ENABLE");
	}
	$session = $subscriber->background_psql($slot);
	is(answers('anna', $early, $local), "valid anna\nrevoked anna", "$mode: a copied key takes its name from one that was here");
	is(there(q{SELECT count(*), count(DISTINCT id) FROM apikey_project}), '1|1', "$mode: so does a project");
	is(there(q{SELECT path, member, role FROM apikey_members WHERE path = 'acme/pay'}), 'acme/pay|anna|admin', "$mode: with its members");

	# Verification writes here what the publisher writes too.
	publish("SELECT apikey_verify('$early', owner => 'anna'); UPDATE apikey_usage SET use_count = 100");
	is(answers('anna', $early), 'valid anna', "$mode: used on both");
	ok($subscriber->poll_query_until($slot, q{SELECT count(*) > 0 FROM apikey_usage}), "$mode: its use is written here");
	there("SELECT apikey_verify('$early', owner => 'anna', scopes => '{none}')");
	ok($subscriber->poll_query_until($slot, q{SELECT count(*) > 0 FROM apikey_events WHERE event = 'denied' AND detail ->> 'code' = 'insufficient_scope'}), "$mode: an event of here");
	my $name = create($publisher, 'anna', 'events');
	publish("SELECT apikey_disable(apikey_id('$name')), apikey_enable(apikey_id('$name'))") for 1 .. 10;
	is(answers('anna', $name), 'valid anna', "$mode: events that arrive under numbers which are taken");
	is(there(q{SELECT count(*) FROM apikey_events WHERE event = 'denied' AND detail ->> 'code' = 'insufficient_scope'}), '1', "$mode: leave those of here");
	is(there(q{SELECT count(*) FROM apikey_events WHERE key_name = 'events'}), '21', "$mode: and are all there");

	# A name that a key of here has, on insert and on update.
	my $here = create($subscriber, 'anna', 'taken');
	my $other = create($subscriber, 'anna', 'renamed');
	my $arriving = create($publisher, 'anna', 'taken');
	is(answers('anna', $arriving, $here, $other), "valid anna\nrevoked anna\nvalid anna", "$mode: a name that is taken here");
	publish("SELECT apikey_rename(apikey_id('$arriving'), 'renamed')");
	is(answers('anna', $arriving, $other), "valid anna\nrevoked anna", "$mode: a new name that is taken here");
	is(there("SELECT revoke_reason FROM apikeys WHERE id = apikey_id('$other')"), 'its name was taken by a key that was replicated', "$mode: says why");

	# Revoked here, it stays so, whatever arrives.
	there("SELECT apikey_revoke(apikey_id('$arriving'), 'here')");
	publish("SELECT apikey_rename(apikey_id('$arriving'), 'again')");
	is(answers('anna', $arriving), 'revoked anna', "$mode: a rename does not make valid what was revoked here");
	is(there("SELECT name, revoke_reason FROM apikeys WHERE id = apikey_id('$arriving')"), 'again|here', "$mode: though it arrives");
	publish("SELECT apikey_revoke(apikey_id('$early'), 'there')");
	is(answers('anna', $early), 'revoked anna', "$mode: nor is a revocation from there lost");

	# A voucher that is not here: its key is nobody's to vouch for.
	publish("UPDATE apikey_key SET vouched_by = 'bert', vouched_by_name = 'bert' WHERE id = apikey_id('$name')");
	answers('anna', $name);
	is(there("SELECT vouched_by FROM apikey_key WHERE id = apikey_id('$name')"), 'bert', "$mode: who vouches is told by name");
	if ($mode eq 'binary')
	{
		publish("UPDATE apikey_key SET vouched_by = 'elsewhere', vouched_by_name = 'elsewhere' WHERE id = apikey_id('$name')");
		answers('anna', $name);
		is(there("SELECT vouched_by::oid FROM apikey_key WHERE id = apikey_id('$name')"), '0', "$mode: who is not here vouches for nothing");
		my $missing = create($publisher, 'elsewhere', 'missing');
		is(answers('anna', $missing, create($publisher, 'bert', 'after')), "not_found\nwrong_owner bert", "$mode: nor does what is of it stop the subscription");
	}

	# Who may have a dropped organization's name again, and who administers, is told by name, too.
	publish(q{SELECT apikey_organization_create('gone'); SELECT apikey_member_add('gone', 'anna', 'owner');
		SELECT apikey_organization_drop('gone', 'gone'); SELECT apikey_grant('administer', 'anna')});
	answers('anna', $name);
	is(there(q{SELECT role FROM apikey_name_hold WHERE name = 'gone' AND role_name = 'anna'}), 'anna', "$mode: a former owner");
	is(there(q{SELECT role FROM apikey_administrator}), 'anna', "$mode: an administrator");

	# Subscribed anew, over all that is here.
	$session->query_safe("SELECT apikey_revoke(apikey_id('$name'), 'here')");
	there("DROP SUBSCRIPTION $slot");
	# In text, the server itself stops at a role that is not there.
	$subscriber->safe_psql('postgres', 'CREATE ROLE elsewhere') if $mode eq 'binary';
	there("CREATE SUBSCRIPTION $slot CONNECTION '$conninfo' PUBLICATION everything");
	$subscriber->wait_for_subscription_sync($publisher, $slot, $slot);
	is(answers('anna', $name, $early), "revoked anna\nrevoked anna", "$mode: copied anew, what was revoked here stays so");
	is(answers('anna', create($publisher, 'anna', 'last')), 'valid anna', "$mode: and what is made goes on to arrive");
	$session->quit;
	there("DROP SUBSCRIPTION $slot");
}

unlike(slurp_file($subscriber->logfile), qr/ERROR:  duplicate key/, 'nothing stopped a subscription');
$subscriber->stop;
$publisher->stop;
done_testing();
