#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
#
# Calls KMS with Perl's LWP, for test_clients.py:
#
#   lwp_calls.pl URL KEEP_ALIVE BODY...
#
# Asks with one BODY after the other, all on one connection if KEEP_ALIVE is 1, and prints the status and
# version of each answer, and its body.

use strict;
use warnings;
use LWP::UserAgent;

my ($url, $keep_alive, @bodies) = @ARGV;
my $client = LWP::UserAgent->new(keep_alive => $keep_alive);

foreach my $body (@bodies) {
	my $answer = $client->post($url, "Content-Type" => "application/x-amz-json-1.1",
		"X-Amz-Target" => "TrentService.DescribeKey", Content => $body);

	print $answer->code, " ", $answer->protocol, " ", $answer->content, "\n";
}
