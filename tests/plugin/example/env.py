from migrate_ext import environment

environment(metadata="shop.models:metadata", compare_type=True)
