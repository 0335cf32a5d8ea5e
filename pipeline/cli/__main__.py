from figkd_pipeline.__main__ import main

main()
