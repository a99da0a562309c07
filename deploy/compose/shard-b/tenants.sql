-- The sample's tenants on this shard. They begin empty: the first rollout makes their tables.
CREATE DATABASE tenant_b01;
CREATE DATABASE tenant_b02;
CREATE DATABASE tenant_b03;
CREATE DATABASE tenant_b04;
CREATE DATABASE tenant_b05;
CREATE DATABASE tenant_b06;
