-- Ends a node's own lease and frees what it still owns. ARGV 2 node.
if leased(ARGV[2]) then
  drop({ ARGV[2] })
end
return 1
