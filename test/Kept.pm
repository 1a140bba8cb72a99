# Who may do nothing but connect keeps everybody from the server's catalogs.
#
#     my @eve = keep_from($node, 'pg_subscription', 'pg_subscription_rel');
#     let_go(@eve);
package Kept;
use strict;
use warnings;
use Exporter 'import';
use Test::More;

our @EXPORT = qw(keep_from let_go);

# Sessions of the role eve, of which one has read all of some catalogs, and the
# others queue for one each.
sub keep_from
{
	my ($node, @catalogs) = @_;
	my @eve = map { $node->background_psql('postgres', on_error_stop => 0) } 0 .. @catalogs;
	$_->query_safe('SET ROLE eve') for @eve;
	$eve[0]->query_safe('BEGIN');
	for my $i (1 .. @catalogs)
	{
		my $catalog = $catalogs[$i - 1];
		$eve[0]->query_safe("PREPARE p$i AS SELECT 1 FROM $catalog");
		$eve[$i]->query_until(qr/queued/, "\\echo queued\nCREATE RULE r AS ON INSERT TO $catalog DO NOTHING;\n");
		ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE relation = '$catalog'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted"), "$catalog: queued for");
	}
	return @eve;
}

sub let_go
{
	my (@eve) = @_;
	$_->query('ROLLBACK') for @eve;
	$_->quit for @eve;
}

1;
