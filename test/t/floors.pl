# No file calls, reads from or includes one that stands on a higher floor, and
# each includes of other folders the doors alone; and what is done under spinlocks.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;

my ($out, $err) = run_command([ 'test/floors' ]);
is($err, '', 'the arrows can be drawn');
unlike($out, qr/^up:/m, 'none runs up');
unlike($out, qr/^circle:/m, 'none leads back to where it began');
unlike($out, qr/^not by the door:/m, 'none passes by a door');
unlike($out, qr/^long:/m, 'no file and no function is too long');
unlike($out, qr/^under a spinlock:/m, 'nothing that may take long, or fail, is done under a spinlock');
like($out, qr/^\d+ arrows and \d+ includes between \d+ files, 0 of them wrong$/m, 'and there are some');

done_testing();
