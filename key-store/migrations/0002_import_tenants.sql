-- Whose import it is: by it, whoever looks for salts that were left behind asks whether the import is complete. Those
-- of before do not say.
ALTER TABLE keystore.import_salts ADD COLUMN tenant_id uuid;
