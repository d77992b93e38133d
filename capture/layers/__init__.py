"""Records to IP packets: links, tags, IP, transport and tunnels."""
