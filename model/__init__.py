import logging

# Imported by peft, it warns on some CPUs of a package that would make it faster there.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
