-- The sample's tenants on this shard. They begin empty: the first rollout makes their tables.
CREATE DATABASE tenant_a01;
CREATE DATABASE tenant_a02;
CREATE DATABASE tenant_a03;
CREATE DATABASE tenant_a04;
CREATE DATABASE tenant_a05;
CREATE DATABASE tenant_a06;
